/**
 * Entity tags, since what a client holds is upstream's representation under one policy revision (RFC 9110 §8.8.3).
 * Outgoing: `"x"` and `W/"x"` become `W/"x~revision"`: weak, because the stamp in it differs from answer to answer.
 */
export function outgoingETag(upstream: string, revision: string): string | null {
  const opaque = opaqueTag(upstream)
  return opaque === null ? null : `W/"${opaque}~${revision}"`
}

/**
 * If-None-Match to send upstream, or null to send none. Only tags of the revision now in force are translated: an older one
 * must not be confirmed by a 304, since what it names may be forbidden by now. Both forms are sent, as some servers compare
 * byte by byte. `*` is kept only for methods that change something (RFC 9110 §13.1.2).
 */
export function incomingIfNoneMatch(value: string, revision: string, safeMethod: boolean): string | null {
  if (value.trim() === '*') return safeMethod ? null : '*'
  const tags = []
  for (const tag of splitTags(value)) {
    const opaque = opaqueTag(tag)
    if (opaque === null) continue
    const suffix = `~${revision}`
    if (opaque.endsWith(suffix)) {
      const original = opaque.slice(0, -suffix.length)
      tags.push(`"${original}"`, `W/"${original}"`)
    } else if (!safeMethod && !REVISION_SUFFIX.test(opaque)) {
      tags.push(tag)
    }
  }
  return tags.length === 0 ? null : tags.join(', ')
}

/**
 * If-Match to send upstream: the resource's own state, whatever our revision, so any `~revision` is cut and the strong
 * form is sent (a weak tag never matches, RFC 9110 §13.1.1). Tags that we did not make pass unchanged.
 */
export function incomingIfMatch(value: string): string {
  if (value.trim() === '*') return '*'
  return splitTags(value)
    .map((tag) => {
      const opaque = opaqueTag(tag)
      return opaque !== null && REVISION_SUFFIX.test(opaque) ? `"${opaque.replace(REVISION_SUFFIX, '')}"` : tag
    })
    .join(', ')
}

/** Our revisions are twelve hex digits. */
const REVISION_SUFFIX = /~[0-9a-f]{12}$/

function opaqueTag(tag: string): string | null {
  const text = tag.trim()
  const start = text.startsWith('W/') ? 2 : 0
  if (text.length < start + 2 || text[start] !== '"' || !text.endsWith('"')) return null
  const opaque = text.slice(start + 1, -1)
  return opaque.includes('"') ? null : opaque
}

/** Splits at commas outside quotes: an opaque tag may hold a comma. Linear. */
function splitTags(value: string): string[] {
  const tags: string[] = []
  let start = 0
  let quoted = false
  for (let i = 0; i <= value.length; i += 1) {
    if (i === value.length || (value[i] === ',' && !quoted)) {
      const tag = value.slice(start, i).trim()
      if (tag !== '') tags.push(tag)
      start = i + 1
    } else if (value[i] === '"') {
      quoted = !quoted
    }
  }
  return tags
}
