import { fits, readCertificate, signedBy, splitCertificates, type KeyPair } from './authority.ts'

/** What the Secret `signet-ca` holds. */
export type AuthorityState = {
  /** Signs serving certificates. */
  readonly signing: KeyPair
  /** Trusted already, signs later. */
  readonly next: KeyPair | null
  /** All that verifiers shall trust. */
  readonly trusted: readonly string[]
}

export type AuthorityStep =
  | { readonly step: 'keep' }
  /** There is none that can be used; `trusted` is what is left of the former. */
  | { readonly step: 'create'; readonly reason: string; readonly trusted: readonly string[] }
  /** Make the successor, and let it be trusted. */
  | { readonly step: 'announce'; readonly trusted: readonly string[] }
  /** The successor signs from now on. */
  | { readonly step: 'promote'; readonly state: AuthorityState }
  | { readonly step: 'prune'; readonly state: AuthorityState }

/** Fractions of the signing authority's life. */
const ANNOUNCE_AT = 2 / 3
const PROMOTE_AT = 5 / 6
const RENEW_SERVING_AT = 2 / 3

/**
 * The next step of the authority's life. At two thirds of it a successor is made and published as trusted; it signs from five sixths on.
 * In between, whoever holds a copy of the trusted ones (pods have it pinned since their admission) takes it up; the former stays
 * trusted until it expires.
 */
export function decideAuthority(state: AuthorityState | null, nowMs: number): AuthorityStep {
  const alive = (state?.trusted ?? []).filter((cert) => isAlive(cert, nowMs))
  if (state === null) return { step: 'create', reason: 'there is none', trusted: [] }
  const facts = readCertificate(state.signing.cert)
  if (facts === null || !fits(state.signing)) {
    return { step: 'create', reason: 'the stored one cannot be read', trusted: alive }
  }
  if (nowMs >= facts.notAfterMs) return { step: 'create', reason: 'the stored one has expired', trusted: alive }
  const lifeMs = facts.notAfterMs - facts.notBeforeMs
  const isDue = (fraction: number): boolean => nowMs >= facts.notBeforeMs + lifeMs * fraction
  const next = state.next !== null && fits(state.next) && isAlive(state.next.cert, nowMs) ? state.next : null
  const wanted = unique([state.signing.cert, ...(next === null ? [] : [next.cert]), ...alive])
  if (next === null && isDue(ANNOUNCE_AT)) return { step: 'announce', trusted: wanted }
  if (next !== null && isDue(PROMOTE_AT) && state.trusted.some((cert) => same(cert, next.cert))) {
    return { step: 'promote', state: { signing: next, next: null, trusted: unique([next.cert, ...wanted]) } }
  }
  const isKept =
    wanted.length === state.trusted.length && wanted.every((cert, index) => same(cert, state.trusted[index]!))
  if (isKept && next === state.next) return { step: 'keep' }
  return { step: 'prune', state: { signing: state.signing, next, trusted: wanted } }
}

/** Why a serving certificate has to be issued; null where the one that is there will do. */
export function servingFault(
  pair: KeyPair | null,
  wanted: { readonly authority: string; readonly dnsNames: readonly string[]; readonly nowMs: number },
): string | null {
  if (pair === null) return 'there is none'
  const facts = readCertificate(pair.cert)
  if (facts === null || !fits(pair)) return 'the stored one cannot be read'
  if (facts.dnsNames.join() !== [...wanted.dnsNames].sort().join()) return 'it is for other names'
  if (!signedBy(pair.cert, wanted.authority)) return 'another authority signs now'
  const dueMs = facts.notBeforeMs + (facts.notAfterMs - facts.notBeforeMs) * RENEW_SERVING_AT
  if (wanted.nowMs >= dueMs) return 'two thirds of its life are over'
  return null
}

/** PEM of all that is trusted, as it goes into `caBundle`, the ConfigMap and pods. */
export function trustBundle(trusted: readonly string[]): string {
  return trusted.join('')
}

function isAlive(cert: string, nowMs: number): boolean {
  const facts = readCertificate(cert)
  return facts !== null && nowMs < facts.notAfterMs
}

function same(a: string, b: string): boolean {
  return a === b || splitCertificates(a)[0] === splitCertificates(b)[0]
}

function unique(certs: readonly string[]): string[] {
  return [...new Set(certs.flatMap(splitCertificates))]
}
