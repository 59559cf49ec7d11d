import { generateKeyPairSync, randomBytes } from 'node:crypto'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import type { SealedRecord } from '../audit/record.ts'
import {
  blockDigest,
  blockWidth,
  isPurgeSigned,
  purgeKey,
  purgesInForce,
  readPurgeNotice,
  signPurge,
  type PurgeStatement,
} from './purge.ts'

const ID = '0d0e1a7c-0000-4000-8000-000000000001'
const statement: PurgeStatement = {
  v: 1,
  purge_id: ID,
  tenant: 'acme',
  retention_class: 'h30_a60',
  month: '2026-06-01',
  first_seq: 2,
  last_seq: 9,
  records: 5,
  width: 1_024,
  blocks: [[0, 5, 'a'.repeat(64)]],
  snapshot: ID,
  manifest_sha256: 'b'.repeat(64),
}
const { privateKey, publicKey } = generateKeyPairSync('ed25519')
const signature = signPurge(statement, { keyId: 'ack-1', privateKey })

function record(type: string, context: Record<string, unknown>, changes: Partial<SealedRecord> = {}): SealedRecord {
  const event = { event_type: type, tenant: 'acme', source: 'signet-ledger', context } as SealedRecord['event']
  return {
    v: 1,
    event,
    producer_id: 'signet-ledger',
    received_at: '',
    session: null,
    spool_seq: null,
    stamp_hash: null,
    ...changes,
  }
}

describe('a purge record', () => {
  it('is signed as a whole', () => {
    expect(isPurgeSigned(statement, signature, publicKey)).toBe(true)
    for (const [name, value] of Object.entries({
      records: 6,
      tenant: 'x',
      blocks: [[0, 4, 'a'.repeat(64)]],
      snapshot: 'x',
    }))
      expect(isPurgeSigned({ ...statement, [name]: value }, signature, publicKey), name).toBe(false)
    expect(isPurgeSigned(statement, { ...signature, value: '' }, publicKey)).toBe(false)
  })

  it.each([
    {
      name: 'as the ledger writes it',
      of: record('audit.purge.authorized', { statement, signature, by: 'x' }),
      want: 'authorized',
    },
    { name: 'completed', of: record('audit.purge.completed', { purge_id: ID }), want: 'completed' },
    { name: 'abandoned', of: record('audit.purge.abandoned', { purge_id: ID }), want: 'abandoned' },
    { name: 'of another type', of: record('egress.decided', { statement, signature }), want: undefined },
    {
      name: 'of a producer',
      of: record('audit.purge.authorized', { statement, signature }, { producer_id: 'demo/api' }),
      want: undefined,
    },
    {
      name: 'of another tenant',
      of: record('audit.purge.authorized', { statement: { ...statement, tenant: 'globex' }, signature }),
      want: undefined,
    },
    { name: 'without a signature', of: record('audit.purge.authorized', { statement }), want: undefined },
    {
      name: 'of no blocks',
      of: record('audit.purge.authorized', { statement: { ...statement, blocks: [] }, signature }),
      want: undefined,
    },
    { name: 'completed for no id', of: record('audit.purge.completed', {}), want: undefined },
  ])('$name', ({ of, want }) => {
    expect(readPurgeNotice(of)?.kind).toBe(want)
  })

  it('holds until it is given up; the last one of a month counts', () => {
    const later = { ...statement, purge_id: ID.replace(/1$/, '2') }
    const key = purgeKey('h30_a60', '2026-06-01')
    const first = { kind: 'authorized', statement } as const
    const second = { kind: 'authorized', statement: later } as const
    expect(purgesInForce([first]).get(key)).toBe(statement)
    expect(purgesInForce([first, second]).get(key)).toBe(later)
    expect(purgesInForce([first, { kind: 'abandoned', purgeId: ID }]).size).toBe(0)
    expect(purgesInForce([first, { kind: 'abandoned', purgeId: ID }, second]).get(key)).toBe(later)
    expect(purgesInForce([first, { kind: 'completed', purgeId: ID }]).get(key)).toBe(statement)
  })
})

describe('blocks', () => {
  it('are few, whatever the range', () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 2 ** 45 }), fc.integer({ min: 0, max: 2 ** 40 }), (first, length) => {
        const width = blockWidth(first, first + length)
        const count = Math.floor((first + length - 1) / width) - Math.floor((first - 1) / width) + 1
        expect(count).toBeLessThanOrEqual(1_025)
        expect(Math.log2(width) % 1).toBe(0)
      }),
    )
  })

  it('a digest is of numbers, commitments and their order', () => {
    const links = [1, 2, 3].map((seq) => ({ seq, commitment: randomBytes(32) }))
    const digest = blockDigest(links)
    expect(blockDigest(links)).toBe(digest)
    expect(blockDigest(links.toReversed())).not.toBe(digest)
    expect(blockDigest(links.slice(1))).not.toBe(digest)
    expect(blockDigest(links.map((link) => ({ ...link, seq: link.seq + 1 })))).not.toBe(digest)
  })
})
