import { beforeEach, describe, expect, it } from 'vitest'
import { indexKeyring } from '#core/keyring/keyring.ts'
import { embedStamp } from '#core/stamp/splice.ts'
import { CLAIMS, KEYRING, KEYS, stampOf } from '#core/stamp/stamp.fixture.ts'
import { judgeStamp } from '#core/stamp/verdict.ts'
import { createStampVerifier, type StampVerifierOptions } from './foreign.ts'

const PAYLOAD = Buffer.from('{"a":1}')
const OURS = indexKeyring({ version: 1, keys: KEYRING.keys.filter(({ key_id: id }) => id === 'billing-2026') })
const embed = (payload: Buffer, stamp: Buffer): Buffer => embedStamp(payload, payload.length - 1, false, stamp)
const STAMP = Buffer.from(stampOf(PAYLOAD).jcs)
const BODY = embed(PAYLOAD, STAMP)

let clock: { ms: number }
let calls: Buffer[]
let results: string[]
beforeEach(() => {
  clock = { ms: 0 }
  calls = []
  results = []
})

/** A proxy of another producer, and the ledger that it asks. */
function verifier(options: Partial<StampVerifierOptions> = {}) {
  return createStampVerifier({
    tenant: 'acme',
    keyring: () => OURS,
    ask: async (stampBytes) => {
      calls.push(stampBytes)
      return judgeStamp(stampBytes, KEYS, 'acme').verified
    },
    onAsked: (result) => results.push(result),
    now: () => clock.ms,
    ...options,
  })
}

describe('a stamp of another producer', () => {
  it('is verified when the ledger vouches for it, which is asked once', async () => {
    const stamps = verifier()
    expect(() => stamps.check(STAMP, PAYLOAD)).toThrow('keyring has no stamp key')
    await stamps.prepare(BODY)
    expect(stamps.check(STAMP, PAYLOAD).stamp.data_lineage.producer_id).toBe('reports/ledger-api')
    expect(stamps.prepare(BODY)).toBeNull()
    expect([calls, results]).toEqual([[STAMP], ['verified']])
  })

  it('is verified over what it came with only', async () => {
    const stamps = verifier()
    await stamps.prepare(BODY)
    expect(() => stamps.check(STAMP, Buffer.from('{"a":2}'))).toThrow('the payload is not what was stamped')
  })

  it('is asked about again after a minute', async () => {
    const stamps = verifier()
    await stamps.prepare(BODY)
    clock.ms = 60_000
    expect(() => stamps.check(STAMP, PAYLOAD)).toThrow('keyring has no stamp key')
    await stamps.prepare(BODY)
    expect(calls).toHaveLength(2)
  })

  it('that the ledger does not vouch for is a forgery, and is not asked about again', async () => {
    const stamps = verifier({ ask: async () => false })
    await stamps.prepare(BODY)
    expect(() => stamps.check(STAMP, PAYLOAD)).toThrow('keyring has no stamp key')
    expect([stamps.prepare(BODY), results]).toEqual([null, ['refused']])
  })

  it('is unverified while the ledger is away, and nobody else waits for it', async () => {
    const stamps = verifier({ ask: () => Promise.reject(new Error('away')) })
    await stamps.prepare(BODY)
    expect(() => stamps.check(STAMP, PAYLOAD)).toThrow('keyring has no stamp key')
    expect(stamps.prepare(BODY)).toBeNull()
    clock.ms = 2_000
    expect(stamps.prepare(BODY)).not.toBeNull()
    await new Promise((resolve) => setImmediate(resolve))
    expect(results).toEqual(['unavailable', 'unavailable'])
  })

  it('is unverified when the ledger does not answer in time', async () => {
    const stamps = verifier({
      timeoutMs: 20,
      ask: (_, signal) =>
        new Promise((_resolve, reject) => signal.addEventListener('abort', () => reject(signal.reason))),
    })
    await stamps.prepare(BODY)
    expect(results).toEqual(['unavailable'])
  })

  it('is asked about once by all that wait, and not by more than a few at a time', async () => {
    const release = Promise.withResolvers<void>()
    const stamps = verifier({
      ask: async (stampBytes) => {
        calls.push(stampBytes)
        await release.promise
        return true
      },
    })
    const [first, second] = [stamps.prepare(BODY), stamps.prepare(BODY)]
    expect([first === second, calls.length]).toEqual([true, 1])
    const others = Array.from({ length: 40 }, (_, index) => {
      const payload = Buffer.from(`{"a":${index + 10}}`)
      return stamps.prepare(embed(payload, Buffer.from(stampOf(payload).jcs)))
    })
    expect([others.filter((waits) => waits === null).length, calls.length]).toEqual([9, 32])
    release.resolve()
    await Promise.all([first, ...others])
    expect(results.filter((result) => result === 'unavailable')).toHaveLength(9)
  })
})

describe('nobody is asked about', () => {
  const billing = { ...CLAIMS, data_lineage: { ...CLAIMS.data_lineage, producer_id: 'billing/api' } }
  const own = stampOf(PAYLOAD, { keyId: 'billing-2026', claims: billing })
  it.each([
    { what: 'a body without a stamp', body: PAYLOAD },
    { what: 'a stamp of our own', body: embed(PAYLOAD, Buffer.from(own.jcs)) },
    { what: 'a stamp over something else', body: embed(Buffer.from('{"a":2}'), STAMP) },
    {
      what: 'a stamp of another tenant',
      body: embed(PAYLOAD, Buffer.from(STAMP.toString().replace('"tenant":"acme"', '"tenant":"globex"'))),
    },
    { what: 'a stamp in another encoding', body: Buffer.from(`{"a":1,"_compliance": ${STAMP.toString()}}`) },
    { what: 'what is no stamp', body: Buffer.from('{"a":1,"_compliance":{"x":1}}') },
    { what: 'broken JSON', body: Buffer.from('{"a":1,"_compliance":{') },
  ])('$what', ({ body }) => {
    expect(verifier().prepare(body)).toBeNull()
    expect(calls).toEqual([])
  })
})
