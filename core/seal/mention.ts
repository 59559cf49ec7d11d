import { isEmail } from './wrap.ts'

/** Where a text names somebody: the characters from `start` to before `end` stand for `name`. */
export type Mention = { readonly start: number; readonly end: number; readonly name: string }

const AT = /@|%40/gi
/** What cannot be in an address: white space, brackets, quotes, and what separates the parts of a URL. */
const BREAKS = /[\s<>()[\]{},;:"'\\/?&=#|@]/
const DOMAIN = /[\p{L}\p{N}.-]/u
const MAX_LOCAL = 64
const MAX_DOMAIN = 255

/** A name to look for, in the ways that it is written. */
export type SoughtName = { readonly name: string; readonly forms: readonly string[]; readonly isWord: boolean }

/** Names of fewer than three characters are not looked for: they would be found everywhere. */
export function soughtNames(names: readonly string[]): SoughtName[] {
  return [...new Set(names)]
    .filter((name) => name.length >= 3)
    .map((name) => ({
      name,
      forms: [...new Set([name, encodeURIComponent(name.toWellFormed())])],
      isWord: !/[^\p{L}]/u.test(name),
    }))
}

/**
 * E-mail addresses in a text, and places where one of `sought` stands; `%40` counts as `@`. In order, none over another. Linear in the
 * length of the text.
 */
export function findMentions(text: string, sought: readonly SoughtName[]): Mention[] {
  const found = text.includes('@') || text.includes('%40') ? emailsIn(text) : []
  for (const name of sought) placesOf(name, text, found)
  if (found.length < 2) return found
  // The longer one of two that begin together: `user:alice@example.com` before `alice@example.com`.
  found.sort((a, b) => a.start - b.start || b.end - a.end)
  let last = 0
  return found.filter((mention) => {
    if (mention.start < last) return false
    last = mention.end
    return true
  })
}

/** Whether a text names one of these, or anybody by an e-mail address. For texts that are kept for ever, in clear. */
export function namesSomebody(text: string, names: readonly string[] = []): boolean {
  return findMentions(text, soughtNames(names)).length > 0
}

function emailsIn(text: string): Mention[] {
  const found: Mention[] = []
  for (const at of text.matchAll(AT)) {
    let start = at.index
    const earliest = Math.max(found.at(-1)?.end ?? 0, start - MAX_LOCAL)
    while (start > earliest && !BREAKS.test(text.charAt(start - 1))) start--
    const domain = at.index + at[0].length
    let end = domain
    const latest = Math.min(text.length, domain + MAX_DOMAIN)
    while (end < latest && DOMAIN.test(text.charAt(end))) end++
    while (end > domain && /[.-]/.test(text.charAt(end - 1))) end--
    const name = `${decoded(text.slice(start, at.index))}@${text.slice(domain, end)}`
    if (isEmail(name)) found.push({ start, end, name })
  }
  return found
}

/** A name that could be any word counts where it is all of a segment (of a path, a list); others wherever they stand. */
function placesOf({ name, forms, isWord }: SoughtName, text: string, found: Mention[]): void {
  for (const form of forms) {
    for (let start = text.indexOf(form); start !== -1; start = text.indexOf(form, start + form.length)) {
      const end = start + form.length
      const isSegment =
        (start === 0 || BREAKS.test(text.charAt(start - 1))) && (end === text.length || BREAKS.test(text.charAt(end)))
      if (isSegment || !isWord) found.push({ start, end, name })
    }
  }
}

function decoded(text: string): string {
  if (!text.includes('%')) return text
  try {
    return decodeURIComponent(text)
  } catch {
    return text
  }
}
