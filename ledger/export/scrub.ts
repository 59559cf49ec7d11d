import type { ScrubbedKind } from '#core/export/manifest.ts'
import type { JsonValue } from '#core/json/value.ts'
import { detectFacts } from '#engine/detect/detect.ts'
import { isPaymentCard } from '#engine/detect/payment-card.ts'

/** Something that was scrubbed: what it was taken for, and where it stood, as a JSON Pointer (RFC 6901) into the record. */
export type Scrubbed = { readonly kind: ScrubbedKind; readonly path: string }

/** Names of fields, in lower case without anything but letters and digits: the whole name, or its end. */
const WHOLE_NAMES = new Set([
  'pwd',
  'pin',
  'pan',
  'cvv',
  'cvv2',
  'cvc',
  'cvc2',
  'csc',
  'otp',
  'auth',
  'authorization',
  'proxyauthorization',
  'cookie',
  'cookies',
  'setcookie',
  'credential',
  'credentials',
  'secrets',
  'tokens',
  'passwords',
  'apikeys',
  'connectionstring',
])
const NAME_END =
  /(password|passwd|passphrase|passcode|secret|token|apikey|accesskey|secretkey|privatekey|signingkey|encryptionkey|sharedkey|accesskeyid|cardnumber|cardno|creditcard|securitycode)$/

const NAMED = String.raw`(?:pass(?:word|wd|phrase)|pwd|secret|client[_-]?secret|api[_-]?key|access[_-]?key|auth[_-]?token|access[_-]?token|refresh[_-]?token|id[_-]?token|session[_-]?token|token)`
/** What a secret looks like in a text. Each is linear: no part of a pattern can match in two ways. */
const PATTERNS: readonly (readonly [ScrubbedKind, RegExp, string])[] = [
  [
    'private-key',
    /-----BEGIN [A-Z ]{0,40}PRIVATE KEY(?: BLOCK)?-----[\s\S]*?(?:-----END [A-Z ]{0,40}PRIVATE KEY(?: BLOCK)?-----|$)/g,
    '',
  ],
  ['token', /\beyJ[A-Za-z0-9_-]{4,}\.[A-Za-z0-9_-]{4,}\.[A-Za-z0-9_-]*/g, ''],
  ['token', /\b(?:AKIA|ASIA)[A-Z0-9]{16}\b/g, ''],
  [
    'token',
    /\b(?:gh[pousr]_[A-Za-z0-9]{20,}|github_pat_[A-Za-z0-9_]{20,}|glpat-[A-Za-z0-9_-]{16,}|npm_[A-Za-z0-9]{30,}|dop_v1_[0-9a-f]{32,}|hf_[A-Za-z0-9]{20,})/g,
    '',
  ],
  [
    'token',
    /\b(?:xox[abeoprs]-[A-Za-z0-9-]{10,}|[sr]k_(?:live|test)_[A-Za-z0-9]{10,}|sk-[A-Za-z0-9_-]{20,}|AIza[A-Za-z0-9_-]{35}|SG\.[A-Za-z0-9_-]{16,}\.[A-Za-z0-9_-]{16,}|ya29\.[A-Za-z0-9_-]{20,})/g,
    '',
  ],
  ['token', /\b(Bearer|Basic|Negotiate|Digest)[ \t]+[A-Za-z0-9._~+/=-]{8,}/gi, '$1 '],
  ['password', /([a-z][a-z0-9+.-]{0,30}:\/\/[^\s/?#:@]{0,200}):[^\s/?#@]{1,500}@/gi, '$1:'],
  [
    'password',
    new RegExp(
      String.raw`(["']?\b${NAMED}["']?[ \t]{0,3}[=:][ \t]{0,3})(?:"[^"]{1,2000}"|'[^']{1,2000}'|[^\s"'&;,<>{}()\[\]]{1,2000})`,
      'gi',
    ),
    '$1',
  ],
]
const MARK = (kind: ScrubbedKind): string => `[scrubbed: ${kind}]`
/** Digits in the ways that cards are written. */
const CARD = /\d(?:[ .\-\u00a0]{0,2}\d){12,18}(?!\d)/g
const MAYBE_CARD = /\p{Nd}(?:[^\p{Nd}\p{L}]{0,3}\p{Nd}){12}/u
const UUID = /\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b/gi
const WANTED = new Set(['payment_card'] as const)
/** The listing of one record; its values are scrubbed all the same. */
const MAX_LISTED = 1_000

/** Members of a record and its event whose form leaves no room for a secret. */
const FIXED = new Set([
  '/v',
  '/received_at',
  '/session',
  '/spool_seq',
  '/stamp_hash',
  '/event/event_id',
  '/event/timestamp_utc',
  '/event/trace_id',
  '/event/stage',
  '/event/outcome',
  '/event/latency_ms',
  '/event/stamp_hash',
])

/**
 * A copy of a sealed record without passwords, keys, tokens and card numbers, by the names of fields and by what texts look like, and what
 * was taken out. Where nothing was, `value` is the record itself.
 */
export function scrubRecord(record: JsonValue): { value: JsonValue; scrubbed: readonly Scrubbed[] } {
  const scrubbed: Scrubbed[] = []
  const found = (kind: ScrubbedKind, path: string): void => {
    if (scrubbed.length < MAX_LISTED) scrubbed.push({ kind, path })
  }
  const value = scrubValue(record, '', found)
  return scrubbed.length === 0 ? { value: record, scrubbed } : { value, scrubbed }
}

type Found = (kind: ScrubbedKind, path: string) => void

function scrubValue(value: JsonValue, path: string, found: Found): JsonValue {
  if (FIXED.has(path)) return value
  if (typeof value === 'string') return scrubText(value, (kind) => found(kind, path))
  if (typeof value === 'number') {
    if (!Number.isSafeInteger(value) || !isCard(String(value))) return value
    found('payment-card', path)
    return MARK('payment-card')
  }
  if (typeof value !== 'object' || value === null) return value
  if (Array.isArray(value)) return value.map((item, index) => scrubValue(item, `${path}/${index}`, found))
  const scrubbed: Record<string, JsonValue> = Object.create(null) as Record<string, JsonValue>
  for (const [name, member] of Object.entries(value)) {
    const kinds: ScrubbedKind[] = []
    let shown = scrubText(name, (kind) => kinds.push(kind))
    // Two names that were scrubbed must not become one member.
    while (Object.hasOwn(scrubbed, shown) || (shown !== name && Object.hasOwn(value, shown))) shown += '+'
    const inner = `${path}/${shown.replaceAll('~', '~0').replaceAll('/', '~1')}`
    for (const kind of kinds) found(kind, inner)
    if (isSecretName(name) && isSomething(member)) {
      found('field', inner)
      scrubbed[shown] = MARK('field')
    } else scrubbed[shown] = scrubValue(member, inner, found)
  }
  return scrubbed
}

function isSecretName(name: string): boolean {
  if (name.length > 200) return false
  const plain = name.toLowerCase().replaceAll(/[^\p{L}\p{N}]/gu, '')
  return WHOLE_NAMES.has(plain) || NAME_END.test(plain)
}

/** Null, a flag and nothing at all tell nothing. */
function isSomething(value: JsonValue): boolean {
  if (value === null || typeof value === 'boolean' || value === '') return false
  return typeof value !== 'object' || Object.keys(value).length > 0
}

function scrubText(text: string, found: (kind: ScrubbedKind) => void): string {
  let scrubbed = text
  for (const [kind, pattern, kept] of PATTERNS) {
    const next = scrubbed.replace(pattern, `${kept}${MARK(kind)}${kind === 'password' && kept === '$1:' ? '@' : ''}`)
    if (next !== scrubbed) found(kind)
    scrubbed = next
  }
  if (!MAYBE_CARD.test(scrubbed)) return scrubbed
  // Of random ids one in some thousands has the digits of a card.
  const ids = scrubbed.match(UUID) ?? []
  if (ids.length === 0) return scrubCards(scrubbed, found)
  const parts = scrubbed.split(UUID)
  return parts.map((part, index) => `${scrubCards(part, found)}${ids[index] ?? ''}`).join('')
}

function scrubCards(scrubbed: string, found: (kind: ScrubbedKind) => void): string {
  const next = scrubbed.replace(CARD, (digits) =>
    isCard(digits.replaceAll(/\D/g, '')) ? MARK('payment-card') : digits,
  )
  // The detectors know more ways of writing one than can be cut out: then the whole text goes.
  const left = detectFacts(Buffer.from(next), 'text/plain', WANTED).facts.payment_card
  if (next !== scrubbed || (left?.count ?? 0) > 0) found('payment-card')
  return (left?.count ?? 0) > 0 ? MARK('payment-card') : next
}

function isCard(digits: string): boolean {
  return digits.length >= 13 && digits.length <= 19 && isPaymentCard(Uint8Array.from(digits, Number), digits.length)
}
