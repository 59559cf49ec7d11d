import 'reflect-metadata'
import { X509CertificateGenerator } from '@peculiar/x509'
import { generateKeyPairSync, webcrypto } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterEach, describe, expect, it } from 'vitest'
import { SignetError } from '#core/error/signet-error.ts'
import type { IdentityAnswer } from '#core/identity/exchange.ts'
import { indexKeyring } from '#core/keyring/keyring.ts'
import { StampKeys } from '../keys.ts'
import type { KeyPair } from './client.ts'
import { startWorkloadIdentity } from './workload.ts'

const AT = Date.parse('2026-11-25T12:00:00.000Z')
const iso = (ms: number): string => new Date(AT + ms).toISOString()

async function answerFor(pair: KeyPair, over: Partial<IdentityAnswer> = {}, keyId = 'd1.r1.20261125.acme.demo%2Fapi') {
  const issuer = await webcrypto.subtle.generateKey({ name: 'ECDSA', namedCurve: 'P-256' }, true, ['sign', 'verify'])
  const certificate = await X509CertificateGenerator.create({
    subject: 'CN=w',
    issuer: 'CN=ca',
    notBefore: new Date(AT - 1_000),
    notAfter: new Date(AT + 86_400_000),
    signingAlgorithm: { name: 'ECDSA', hash: 'SHA-256' },
    publicKey: pair.publicKey.toCryptoKey('Ed25519', true, ['verify']),
    signingKey: issuer.privateKey,
  })
  return {
    version: 1,
    tenant: 'acme',
    producer_id: 'demo/api',
    stamp_key: {
      key_id: keyId,
      secret: Buffer.alloc(32, keyId).toString('base64url'),
      not_before: iso(-60_000),
      not_after: iso(86_400_000),
    },
    certificate: certificate.toString('pem'),
    ack_keys: [],
    renew_at: iso(43_200_000),
    ...over,
  } satisfies IdentityAnswer
}

const stop = new Set<AbortController>()
afterEach(() => {
  for (const controller of stop) controller.abort()
  stop.clear()
})

/** `script`: what each exchange does, the last for all further. The clock stands still but for what a test adds. */
function scene(script: ((pair: KeyPair) => Promise<IdentityAnswer>)[]) {
  const controller = new AbortController()
  stop.add(controller)
  const clock = { ms: AT }
  const keys = new StampKeys(indexKeyring({ version: 1, keys: [] }), 'demo/api', 'acme')
  const results: string[] = []
  let count = 0
  const pairs = new Set<KeyPair>()
  const identity = startWorkloadIdentity({
    client: {
      exchange: (pair) => {
        pairs.add(pair)
        const step = script[Math.min(count, script.length - 1)]
        count += 1
        return step === undefined ? Promise.reject(new Error('no step')) : step(pair)
      },
    },
    tenant: 'acme',
    producerId: 'demo/api',
    onKeys: (index) => keys.replace(index),
    onResult: (result) => results.push(result),
    log: { info: () => undefined, error: () => undefined },
    nowMs: () => clock.ms,
    random: () => 0,
    signal: controller.signal,
    backoff: { baseMs: 1, maxMs: 1 },
  })
  return { identity, keys, results, clock, pairs, controller }
}

describe('startWorkloadIdentity', () => {
  it('has no key before the first answer, and signs with it from then on', async () => {
    const gate = Promise.withResolvers<void>()
    const { identity, keys, pairs } = scene([async (pair) => gate.promise.then(() => answerFor(pair))])
    expect([keys.hasActive(AT), identity.certificate()]).toEqual([false, null])
    gate.resolve()
    await identity.first
    expect(keys.active(AT).keyId).toBe('d1.r1.20261125.acme.demo%2Fapi')
    const [pair] = pairs
    expect(identity.certificate()?.privateKey).toBe(pair?.privateKey)
    expect(identity.certificate()?.chain).toContain('BEGIN CERTIFICATE')
  })

  it('tries again until there is an answer', async () => {
    const away = new SignetError('LEDGER_UNREACHABLE', 'away')
    const { identity, results } = scene([
      () => Promise.reject(away),
      () => Promise.reject(new Error('defect')),
      answerFor,
    ])
    await identity.first
    expect(results).toEqual(['LEDGER_UNREACHABLE', 'INTERNAL', 'issued'])
  })

  it.each([
    { what: 'another tenant', over: { tenant: 'globex' } },
    { what: 'another producer', over: { producer_id: 'demo/other' } },
  ])('takes nothing that was issued to $what', async ({ over }) => {
    const { identity, keys } = scene([(pair) => answerFor(pair, over)])
    await expect(identity.first).rejects.toMatchObject({
      code: 'CONFIG_INVALID',
      message: expect.stringContaining('SIGNET_TENANT'),
    })
    expect(keys.hasActive(AT)).toBe(false)
  })

  it('says so when the ledger does not let it be what it is configured to be', async () => {
    const forbidden = new SignetError('LEDGER_REFUSED', 'no', { details: { status: 403, code: 'FORBIDDEN' } })
    await expect(scene([() => Promise.reject(forbidden)]).identity.first).rejects.toMatchObject({
      code: 'CONFIG_INVALID',
    })
  })

  it.each([
    { what: "a certificate for another's key", answer: () => answerFor(generateKeyPairSync('ed25519')) },
    { what: 'no certificate', answer: (pair: KeyPair) => answerFor(pair, { certificate: 'none' }) },
    {
      what: 'a key that is none',
      answer: async (pair: KeyPair) =>
        answerFor(pair, { stamp_key: { key_id: 'k', secret: 'AAAA', not_before: iso(0), not_after: iso(1_000) } }),
    },
  ])('takes nothing with $what', async ({ answer }) => {
    const { keys, results } = scene([answer, () => new Promise<never>(() => undefined)])
    await expect.poll(() => results).toEqual(['LEDGER_RESPONSE_INVALID'])
    expect(keys.hasActive(AT)).toBe(false)
  })

  it('goes on with what it had while a renewal fails, to the end of that key', async () => {
    const next = 'd1.r2.20261125.acme.demo%2Fapi'
    const away = new SignetError('LEDGER_UNREACHABLE', 'away')
    const scened = scene([answerFor, () => Promise.reject(away)])
    await scened.identity.first
    // News of another root brings the renewal forward; that it fails changes nothing.
    scened.clock.ms += 20_000
    await sleep(5)
    scened.identity.rootSeen('r1')
    scened.identity.rootSeen('r2')
    await expect.poll(() => scened.results.length, { timeout: 5_000 }).toBeGreaterThan(2)
    expect(scened.keys.active(AT).keyId).not.toBe(next)
    expect(scened.keys.hasActive(AT + 86_399_999)).toBe(true)
    expect(scened.keys.hasActive(AT + 86_400_000)).toBe(false)
    scened.clock.ms = AT + 86_400_000
    expect(scened.identity.certificate()).toBeNull()
  })

  it('signs with the new key at once, and keeps the former to verify with', async () => {
    const next = 'd1.r2.20261125.acme.demo%2Fapi'
    const scened = scene([answerFor, (pair) => answerFor(pair, {}, next)])
    await scened.identity.first
    scened.clock.ms += 20_000
    await sleep(5)
    scened.identity.rootSeen('r1')
    await sleep(20)
    expect(scened.results).toEqual(['issued'])
    scened.identity.rootSeen('r2')
    await expect.poll(() => scened.results).toEqual(['issued', 'issued'])
    expect(scened.keys.active(AT).keyId).toBe(next)
    expect(scened.keys.index.stampKey('d1.r1.20261125.acme.demo%2Fapi')).toBeDefined()
    expect(scened.pairs.size).toBe(1)
  })

  it('ends with the process', async () => {
    const { controller, results } = scene([() => Promise.reject(new Error('x'))])
    await sleep(10)
    controller.abort()
    await sleep(5)
    const count = results.length
    await sleep(20)
    expect(results).toHaveLength(count)
  })
})
