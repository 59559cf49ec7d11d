import { beforeAll, describe, expect, it } from 'vitest'
import {
  createAuthority,
  fits,
  issueServing,
  readCertificate,
  signedBy,
  splitCertificates,
  type KeyPair,
} from './authority.ts'
import { decideAuthority, servingFault, trustBundle, type AuthorityState } from './decide.ts'

const DAY_MS = 86_400_000
const LIFE_DAYS = 300
const T0 = Date.parse('2026-01-01T00:00:00Z')
const at = (days: number): number => T0 + days * DAY_MS
const NAMES = ['signet-operator.signet-system.svc', 'signet-operator']

let first: KeyPair
let second: KeyPair
let serving: KeyPair

beforeAll(async () => {
  first = await createAuthority({ now: new Date(at(0)), lifetimeMs: LIFE_DAYS * DAY_MS })
  second = await createAuthority({ now: new Date(at(201)), lifetimeMs: LIFE_DAYS * DAY_MS })
  serving = await issueServing({ authority: first, dnsNames: NAMES, now: new Date(at(0)), lifetimeMs: 90 * DAY_MS })
})

const state = (part: Partial<AuthorityState> = {}): AuthorityState => ({
  signing: first,
  next: null,
  trusted: [first.cert],
  ...part,
})

describe('the next step of the authority', () => {
  const cases: { name: string; state: () => AuthorityState | null; days: number; want: string }[] = [
    { name: 'there is none', state: () => null, days: 0, want: 'create' },
    { name: 'young', state: () => state(), days: 199, want: 'keep' },
    { name: 'two thirds over', state: () => state(), days: 201, want: 'announce' },
    {
      name: 'announced, not due',
      state: () => state({ next: second, trusted: [first.cert, second.cert] }),
      days: 249,
      want: 'keep',
    },
    {
      name: 'announced and due',
      state: () => state({ next: second, trusted: [first.cert, second.cert] }),
      days: 251,
      want: 'promote',
    },
    // Nobody could have taken it up yet: it must be published first.
    {
      name: 'due but not trusted yet',
      state: () => state({ next: second, trusted: [first.cert] }),
      days: 251,
      want: 'prune',
    },
    {
      name: 'the former is still alive',
      state: () => state({ signing: second, trusted: [second.cert, first.cert] }),
      days: 299,
      want: 'keep',
    },
    {
      name: 'the former has expired',
      state: () => state({ signing: second, trusted: [second.cert, first.cert] }),
      days: 301,
      want: 'prune',
    },
    { name: 'expired without a successor', state: () => state(), days: 301, want: 'create' },
    {
      name: 'damaged',
      state: () => state({ signing: { cert: first.cert, key: 'nonsense' } }),
      days: 1,
      want: 'create',
    },
    {
      name: 'the key of another',
      state: () => state({ signing: { cert: first.cert, key: second.key } }),
      days: 1,
      want: 'create',
    },
    { name: 'its own certificate is not trusted', state: () => state({ trusted: [] }), days: 1, want: 'prune' },
  ]
  it.each(cases)('$name: $want', ({ state: given, days, want }) => {
    expect(decideAuthority(given(), at(days)).step).toBe(want)
  })

  it('over years, one step after the other, what signs was trusted for a sixth of a life, and stays trusted until it ends', async () => {
    let now: AuthorityState = state()
    const trustedSince = new Map<string, number>([[first.cert, 0]])
    for (let day = 0; day < 1_500; day += 5) {
      const decision = decideAuthority(now, at(day))
      if (decision.step === 'create') throw new Error(`day ${day}: it was not followed in time`)
      if (decision.step === 'announce') {
        const next = await createAuthority({ now: new Date(at(day)), lifetimeMs: LIFE_DAYS * DAY_MS })
        trustedSince.set(next.cert, day)
        now = { signing: now.signing, next, trusted: [...decision.trusted, next.cert] }
      } else if (decision.step !== 'keep') now = decision.state
      const facts = readCertificate(now.signing.cert)
      expect(facts?.notAfterMs).toBeGreaterThan(at(day))
      expect(now.trusted).toContain(now.signing.cert)
      expect(now.trusted.length).toBeLessThanOrEqual(2)
      if (decision.step === 'promote')
        expect(day - (trustedSince.get(now.signing.cert) ?? day)).toBeGreaterThanOrEqual(45)
    }
    expect(trustedSince.size).toBeGreaterThan(5)
  })
})

describe('a serving certificate', () => {
  const wanted = (days: number) => ({ authority: first.cert, dnsNames: NAMES, nowMs: at(days) })
  it('will do until two thirds of its life', () => {
    expect(servingFault(serving, wanted(59))).toBeNull()
    expect(servingFault(serving, wanted(61))).toContain('two thirds')
  })
  it('is issued anew for other names, by another authority, or when it is broken', () => {
    expect(servingFault(null, wanted(1))).toBe('there is none')
    expect(servingFault(serving, { ...wanted(1), dnsNames: [...NAMES, 'more'] })).toContain('other names')
    expect(servingFault(serving, { ...wanted(1), authority: second.cert })).toContain('another authority')
    expect(servingFault({ ...serving, key: second.key }, wanted(1))).toContain('cannot be read')
  })
  it('does not outlive its authority', async () => {
    const late = await issueServing({
      authority: first,
      dnsNames: NAMES,
      now: new Date(at(290)),
      lifetimeMs: 90 * DAY_MS,
    })
    expect(readCertificate(late.cert)?.notAfterMs).toBe(readCertificate(first.cert)?.notAfterMs)
  })
  it('has its names, its key and its authority', () => {
    expect(readCertificate(serving.cert)?.dnsNames).toEqual([...NAMES].sort())
    expect(fits(serving)).toBe(true)
    expect(signedBy(serving.cert, first.cert)).toBe(true)
    expect(signedBy(serving.cert, second.cert)).toBe(false)
  })
})

it('a bundle is taken apart as it was put together, and what is no certificate is left out', () => {
  expect(splitCertificates(trustBundle([first.cert, second.cert]))).toEqual([first.cert, second.cert])
  expect(
    splitCertificates(`text\n${first.cert}\n-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n`),
  ).toEqual([first.cert])
  expect(splitCertificates('')).toEqual([])
})
