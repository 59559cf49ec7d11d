import { createHmac, type KeyObject } from 'node:crypto'
import { LRUCache } from 'lru-cache'
import { pae } from '#core/crypto/pae.ts'

/**
 * Makes the suffix of one entity tag: twelve hex digits that only this answer's tag has. Bound to all that an allowed answer was
 * decided under, so that a tag tells nobody anything but who got that answer, and is not confirmed elsewhere.
 */
export type TagMark = (opaque: string) => string

export type TagScope = {
  readonly channel: string
  readonly revision: string
  readonly method: string
  readonly target: string
}

export function tagMark(key: KeyObject, scope: TagScope): TagMark {
  return (opaque) =>
    createHmac('sha256', key)
      .update(pae('SignetV1', 'etag', scope.channel, scope.revision, scope.method, scope.target, opaque))
      .digest('hex')
      .slice(0, 12)
}

const MAX_MARKS = 4_096
/** Longer ones are made anew each time, so that entries bound memory. */
const MAX_KEPT_LENGTH = 1_024

/** Marks of one channel; those made last under the key and revision in force it knows, since services repeat their tags. */
export class TagMarks {
  readonly #known = new LRUCache<string, string>({ max: MAX_MARKS })
  #key: KeyObject | null = null
  #revision = ''

  of(key: KeyObject, scope: TagScope): TagMark {
    return (opaque) => {
      if (key !== this.#key || scope.revision !== this.#revision) {
        this.#known.clear()
        this.#key = key
        this.#revision = scope.revision
      }
      // Neither a method nor a target holds a space.
      const name = `${scope.method} ${scope.target} ${opaque}`
      let mark = this.#known.get(name)
      if (mark === undefined) {
        mark = tagMark(key, scope)(opaque)
        if (name.length <= MAX_KEPT_LENGTH) this.#known.set(name, mark)
      }
      return mark
    }
  }
}

/**
 * Entity tags, since what a client holds is upstream's representation under one policy revision (RFC 9110 §8.8.3).
 * Outgoing: `"x"` and `W/"x"` become `W/"x~mark"`: weak, because the stamp in it differs from answer to answer.
 */
export function outgoingETag(upstream: string, mark: TagMark): string | null {
  const opaque = opaqueTag(upstream)
  return opaque === null ? null : `W/"${opaque}~${mark(opaque)}"`
}

/**
 * If-None-Match to send upstream, or null to send none. Only tags that this very answer got under the policy now in force are
 * translated: a 304 must not confirm what is forbidden by now, or was never allowed. Both forms are sent, as some servers compare
 * byte by byte. `*` is kept only for methods that change something (RFC 9110 §13.1.2). At most 16 tags are looked at.
 */
export function incomingIfNoneMatch(value: string, mark: TagMark, safeMethod: boolean): string | null {
  if (value.trim() === '*') return safeMethod ? null : '*'
  const tags = []
  for (const tag of splitTags(value).slice(0, MAX_TAGS)) {
    const opaque = opaqueTag(tag)
    if (opaque === null) continue
    if (REVISION_SUFFIX.test(opaque)) {
      const original = opaque.replace(REVISION_SUFFIX, '')
      // Ours to keep secret or not: whoever has it got the answer. Nothing is compared that a guess could be built on.
      if (opaque === `${original}~${mark(original)}`) tags.push(`"${original}"`, `W/"${original}"`)
    } else if (!safeMethod) {
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

const MAX_TAGS = 16
/** Our marks are twelve hex digits. */
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
