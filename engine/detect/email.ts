import { DOT, HYPHEN, isAlphanumeric, isDigit, isLetter, hashLower } from './alphabet.ts'

/** RFC 5321 §4.5.3.1: octets of a local part and of a domain. */
const MAX_LOCAL = 64
const MAX_DOMAIN = 255

/** `atext` of RFC 5322 and the dot, with the non-ASCII characters of RFC 6531. */
const IS_LOCAL = new Uint8Array(256)
for (const byte of Buffer.from("!#$%&'*+-/=?^_`{|}~.", 'latin1')) IS_LOCAL[byte] = 1
for (let byte = 0; byte < 256; byte++) if (isWord(byte)) IS_LOCAL[byte] = 1

/** Mailboxes of a function (RFC 2142 and common ones): on a page for people, not somebody's address. */
/** Their hashes: taking them for text would cost more than all else about an address. */
const ROLES: ReadonlySet<number> = new Set(
  (
    'abuse accounts admin billing careers contact feedback hello help hostmaster info jobs legal marketing media ' +
    'newsletter noc no-reply noreply office orders postmaster press privacy sales security service support team webmaster'
  )
    .split(' ')
    .map((role) => hashLower(Buffer.from(role), 0, role.length)),
)
const MAX_ROLE = 16
const IMAGE = /^\d+(\.\d+)?x\.(png|jpe?g|gif|webp|svg|avif)$/i

/** What kind of text an address stands in. */
export type EmailContext = 'data' | 'page' | 'code' | 'header'

/**
 * Whether the `@` at `at` is in an e-mail address: a local part, and a domain of two labels or more whose last begins with a
 * letter. Quoted local parts and address literals are not recognised. Not counted: `logo@2x.png`, `git@host`, `…/@name`; on a `page` the
 * mailboxes of a function; in `code` what is no string literal of its own (bundles name their authors in comments).
 */
export function isEmail(bytes: Buffer, start: number, at: number, end: number, context: EmailContext): boolean {
  let first = at
  const floor = Math.max(start, at - MAX_LOCAL)
  while (first > floor && IS_LOCAL[bytes[first - 1]!] === 1) first--
  // What stands before the address may be of the same alphabet: `'alice@…`, `=alice@…`, `//alice@…`.
  let local = first
  while (local < at && !isWord(bytes[local]!) && bytes[local] !== 0x5f) local++
  if (local === at || bytes[at - 1] === DOT || bytes[at - 1] === 0x2f) return false

  const domain = at + 1
  const domainEnd = endOfDomain(bytes, domain, Math.min(end, domain + MAX_DOMAIN))
  if (domainEnd === -1) return false
  if (isDigit(bytes[domain]!) && isImage(bytes, domain, domainEnd)) return false
  if (at - local === 3 && bytes[local] === 0x67 && bytes[local + 1] === 0x69 && bytes[local + 2] === 0x74) return false
  // `https://key@host/`: who calls a service, not who is in it.
  if (context === 'header' && isUserInfo(bytes, start, at)) return false
  if (context === 'code') return isLiteral(bytes, first, at, start)
  if (context === 'page' && at - local <= MAX_ROLE) return !ROLES.has(hashLower(bytes, local, at))
  return true
}

/** The rest of `logo@2x.png`. */
function isImage(bytes: Buffer, domain: number, end: number): boolean {
  let i = domain
  while (i < end && (isDigit(bytes[i]!) || bytes[i] === DOT)) i++
  return (bytes[i]! | 0x20) === 0x78 && end - domain < 16 && IMAGE.test(bytes.toString('latin1', domain, end))
}

function isUserInfo(bytes: Uint8Array, start: number, at: number): boolean {
  let i = at
  const floor = Math.max(start + 2, at - MAX_LOCAL)
  while (i > floor && bytes[i - 1] !== 0x2f && bytes[i - 1] !== 0x3f) i--
  return bytes[i - 1] === 0x2f && bytes[i - 2] === 0x2f
}

/** The end of two or more labels, the last of which is two octets or more and begins with a letter (`com`, `рф`); or -1. */
function endOfDomain(bytes: Uint8Array, start: number, limit: number): number {
  let labelStart = start
  let found = -1
  for (let i = start; ; i++) {
    const byte = i < limit ? bytes[i]! : 0
    if (isWord(byte) || byte === HYPHEN) continue
    // A label ends here, unless it is empty: then the domain ended before the last dot, as it does at the end of a sentence.
    if (i === labelStart || bytes[i - 1] === HYPHEN) return found
    const isTop =
      labelStart > start && i - labelStart >= 2 && (isLetter(bytes[labelStart]!) || bytes[labelStart]! >= 0x80)
    if (isTop) found = i
    if (byte !== DOT) return isTop ? i : -1
    labelStart = i + 1
  }
}

function isWord(byte: number): boolean {
  return isAlphanumeric(byte) || byte >= 0x80
}

/** Whether a quote opens right before the address: in code, `'` and `` ` `` end what may be a local part. */
function isLiteral(bytes: Uint8Array, first: number, at: number, start: number): boolean {
  let i = at
  while (i > first && !isQuote(bytes[i - 1])) i--
  return i > start && i < at && isQuote(bytes[i - 1])
}

function isQuote(byte: number | undefined): boolean {
  return byte === 0x22 || byte === 0x27 || byte === 0x60
}
