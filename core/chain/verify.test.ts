import { createHmac, hash } from 'node:crypto'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { indexKeyring } from '../keyring/keyring.ts'
import { commitment, linkHash, NO_PREDECESSOR, type Link, type RecordBytes } from './link.ts'
import { ChainVerifier, type ChainReport, type ChainVerifierOptions } from './verify.ts'

const year = { not_before: '2026-01-01T00:00:00.000Z', not_after: '2027-01-01T00:00:00.000Z' }
const chainKey = (key_id: string, byte: number) =>
  ({ use: 'chain', alg: 'HMAC-SHA256', key_id, secret: Buffer.alloc(32, byte).toString('base64url'), ...year }) as const
const KEYS = indexKeyring({ version: 1, keys: [chainKey('c1', 5), chainKey('c2', 6)] })
const OTHER_KEYS = indexKeyring({ version: 1, keys: [chainKey('c1', 9), chainKey('c2', 9)] })

type Entry = { link: Link; record: RecordBytes | null }
const marked = (text: string): Buffer => createHmac('sha256', 'mark').update(text).digest()

/** A true chain; `traces[i]` names the trace of its i-th event. */
function makeChain(traces: readonly string[], tenant = 'acme', salt = ''): Entry[] {
  const entries: Entry[] = []
  const traceHeads = new Map<string, Buffer>()
  let previous = NO_PREDECESSOR
  for (const [index, trace] of traces.entries()) {
    const seq = index + 1
    const record = {
      nonce: Buffer.alloc(32, seq),
      bytes: Buffer.from(JSON.stringify({ event: `${salt}${seq}`, trace })),
    }
    const key_id = seq > 4 ? 'c2' : 'c1'
    const key = KEYS.chainKey(key_id)
    if (key === undefined) throw new Error('no key')
    const previousTraceHash = traceHeads.get(trace) ?? NO_PREDECESSOR
    const committed = commitment(record.nonce, record.bytes)
    const linkHashed = linkHash({
      key: key.secret,
      previousHash: previous,
      previousTraceHash,
      commitment: committed,
      seq,
      tenant,
    })
    entries.push({
      link: {
        tenant,
        seq,
        event_id: `e${salt}${seq}`,
        commitment: committed,
        hash: linkHashed,
        previous_hash: previous,
        previous_trace_hash: previousTraceHash,
        key_id,
        trace_hmac: marked(trace),
        received_hmac: marked(`r${seq}`),
      },
      record,
    })
    traceHeads.set(trace, linkHashed)
    previous = linkHashed
  }
  return entries
}

const TRACES = ['a', 'b', 'a', 'c', 'b', 'a', 'd', 'a']
const chain = makeChain(TRACES)
const derive: NonNullable<ChainVerifierOptions['derive']> = (bytes) => {
  const { event, trace } = JSON.parse(bytes.toString()) as { event: string; trace: string }
  return { event_id: `e${event}`, trace_hmac: marked(trace) }
}

function verify(entries: readonly Entry[], options: Partial<ChainVerifierOptions> = {}): ChainReport {
  const verifier = new ChainVerifier({ tenant: 'acme', keyring: KEYS, derive, ...options })
  for (const { link, record } of entries) verifier.add(link, record)
  return verifier.finish()
}
const at = (entries: readonly Entry[], seq: number): Entry => {
  const entry = entries[seq - 1]
  if (entry === undefined) throw new Error('no such link')
  return entry
}
const change = (seq: number, link: Partial<Link>, record?: Partial<RecordBytes>): Entry[] =>
  chain.map((entry) =>
    entry.link.seq !== seq
      ? entry
      : {
          link: { ...entry.link, ...link },
          record: record === undefined || entry.record === null ? entry.record : { ...entry.record, ...record },
        },
  )
const renumber = (entries: readonly Entry[]): Entry[] =>
  entries.map(({ link, record }, index) => ({ link: { ...link, seq: index + 1 }, record }))
const swap = (a: number, b: number): Entry[] =>
  renumber(chain.map((entry, index) => (index === a - 1 ? at(chain, b) : index === b - 1 ? at(chain, a) : entry)))
const head = (seq: number) => ({ seq, hash: at(chain, seq).link.hash.toString('hex') })
const invented: Entry = (() => {
  const record = { nonce: Buffer.alloc(32, 99), bytes: Buffer.from('{"event":"x","trace":"a"}') }
  const link = {
    ...at(chain, 3).link,
    seq: 3,
    event_id: 'ex',
    commitment: commitment(record.nonce, record.bytes),
    hash: hash('sha256', 'x', 'buffer'),
  }
  return { link, record }
})()
const reforged = makeChain(TRACES, 'acme', 'forged-')

describe('ChainVerifier', () => {
  it('verifies a true chain', () => {
    expect(verify(chain, { knownHeads: [head(3), head(8), { seq: 0, hash: '0'.repeat(64) }] })).toEqual({
      seq: 8,
      hash: at(chain, 8).link.hash,
      links: 8,
      withoutRecord: 0,
      traceUnproven: 0,
    })
    expect(verify([])).toEqual({ seq: 0, hash: NO_PREDECESSOR, links: 0, withoutRecord: 0, traceUnproven: 0 })
  })

  it('verifies what is left after records were purged', () => {
    const purged = chain.map(({ link, record }) => ({ link, record: link.seq < 4 ? null : record }))
    expect(verify(purged)).toMatchObject({ links: 8, withoutRecord: 3 })
  })

  it('goes on from a link that was verified before, and says what it could not compare', () => {
    const report = verify(chain.slice(3), {
      start: { seq: 3, hash: at(chain, 3).link.hash },
      knownHeads: [head(2), head(3), head(5)],
    })
    // Links 5 (b) and 6 (a) follow links before the start; 4 (c) and 7 (d) begin traces, which is out of sight just so.
    expect(report).toMatchObject({ seq: 8, links: 5, traceUnproven: 4 })
    expect(() => verify(chain.slice(3), { start: { seq: 3, hash: at(chain, 2).link.hash } })).toThrow(
      expect.objectContaining({ details: expect.objectContaining({ seq: 4, fault: 'fork' }) as object }),
    )
  })

  it('keeps a bounded number of traces', () => {
    expect(verify(chain, { maxTraces: 2 }).traceUnproven).toBeGreaterThan(0)
    expect(verify(chain, { maxTraces: 4 }).traceUnproven).toBe(0)
  })

  const zeros = Buffer.alloc(32)
  it.each<{
    what: string
    entries: Entry[]
    options?: Partial<ChainVerifierOptions>
    wantSeq: number
    wantFault: string
  }>([
    {
      what: 'an edited record',
      entries: change(5, {}, { bytes: Buffer.from('{"event":"5","trace":"B"}') }),
      wantSeq: 5,
      wantFault: 'edit',
    },
    { what: 'an edited nonce', entries: change(5, {}, { nonce: zeros }), wantSeq: 5, wantFault: 'edit' },
    { what: 'a nonce cut short', entries: change(5, {}, { nonce: zeros.subarray(1) }), wantSeq: 5, wantFault: 'edit' },
    {
      what: 'an edited record with its commitment',
      entries: change(5, { commitment: commitment(zeros, Buffer.from('{"event":"5","trace":"b"}')) }, { nonce: zeros }),
      wantSeq: 5,
      wantFault: 'edit',
    },
    { what: 'an edited hash', entries: change(5, { hash: zeros }), wantSeq: 5, wantFault: 'edit' },
    { what: 'an edited hash at the end', entries: change(8, { hash: zeros }), wantSeq: 8, wantFault: 'edit' },
    { what: 'an edited hash at the beginning', entries: change(1, { hash: zeros }), wantSeq: 1, wantFault: 'edit' },
    {
      what: 'a hash of another length',
      entries: change(5, { hash: zeros.subarray(1) }),
      wantSeq: 5,
      wantFault: 'edit',
    },
    { what: 'an edited previous hash', entries: change(5, { previous_hash: zeros }), wantSeq: 5, wantFault: 'edit' },
    {
      what: 'an edited trace predecessor',
      entries: change(6, { previous_trace_hash: zeros }),
      wantSeq: 6,
      wantFault: 'edit',
    },
    { what: 'an edited event id', entries: change(5, { event_id: 'e6' }), wantSeq: 5, wantFault: 'edit' },
    { what: 'an edited trace', entries: change(5, { trace_hmac: marked('a') }), wantSeq: 5, wantFault: 'edit' },
    {
      what: 'an edited trace of a purged record',
      entries: change(6, { trace_hmac: marked('b') }).map(({ link }) => ({ link, record: null })),
      wantSeq: 6,
      wantFault: 'edit',
    },
    {
      what: 'a record that is no event',
      entries: change(
        5,
        { commitment: commitment(zeros, Buffer.from('{')) },
        { nonce: zeros, bytes: Buffer.from('{') },
      ),
      wantSeq: 5,
      wantFault: 'edit',
    },
    { what: 'a missing link', entries: chain.filter(({ link }) => link.seq !== 5), wantSeq: 5, wantFault: 'delete' },
    { what: 'a missing beginning', entries: chain.slice(1), wantSeq: 1, wantFault: 'delete' },
    {
      what: 'a missing link, the rest renumbered',
      entries: renumber(chain.filter(({ link }) => link.seq !== 5)),
      wantSeq: 5,
      wantFault: 'delete',
    },
    {
      what: 'the last but one missing, the last renumbered',
      entries: renumber(chain.filter(({ link }) => link.seq !== 7)),
      wantSeq: 7,
      wantFault: 'delete',
    },
    {
      what: 'three missing links, the rest renumbered',
      entries: renumber(chain.filter(({ link }) => link.seq < 3 || link.seq > 5)),
      wantSeq: 3,
      wantFault: 'delete',
    },
    {
      what: 'an invented link, the rest renumbered',
      entries: renumber([...chain.slice(0, 2), invented, ...chain.slice(2)]),
      wantSeq: 3,
      wantFault: 'insert',
    },
    {
      what: 'a copy of a link, the rest renumbered',
      entries: renumber([...chain.slice(0, 4), at(chain, 2), ...chain.slice(4)]),
      wantSeq: 5,
      wantFault: 'insert',
    },
    {
      what: 'a link twice',
      entries: [...chain.slice(0, 4), at(chain, 4), ...chain.slice(4)],
      wantSeq: 4,
      wantFault: 'insert',
    },
    {
      what: "another tenant's link",
      entries: [...chain.slice(0, 4), at(makeChain(TRACES, 'globex'), 5), ...chain.slice(5)],
      wantSeq: 5,
      wantFault: 'insert',
    },
    { what: 'neighbours that changed places', entries: swap(4, 5), wantSeq: 4, wantFault: 'reorder' },
    { what: 'links that changed places', entries: swap(3, 6), wantSeq: 3, wantFault: 'reorder' },
    { what: 'links fed out of order', entries: [...chain.slice(0, 4), at(chain, 2)], wantSeq: 5, wantFault: 'reorder' },
    {
      what: 'an end cut off',
      entries: chain.slice(0, 6),
      options: { knownHeads: [head(8)] },
      wantSeq: 7,
      wantFault: 'truncate',
    },
    { what: 'everything cut off', entries: [], options: { knownHeads: [head(1)] }, wantSeq: 1, wantFault: 'truncate' },
    {
      what: 'another head than was acknowledged',
      entries: reforged,
      options: { knownHeads: [head(6)] },
      wantSeq: 6,
      wantFault: 'fork',
    },
    {
      what: 'a history written anew with the key, up to a link',
      entries: [...reforged.slice(0, 4), ...chain.slice(4)],
      wantSeq: 5,
      wantFault: 'fork',
    },
    {
      what: 'two links of the key at one place',
      entries: [...chain.slice(0, 4), at(reforged, 4)],
      wantSeq: 4,
      wantFault: 'fork',
    },
    {
      what: 'a key that the keyring does not have',
      entries: change(5, { key_id: 'c9' }),
      wantSeq: 5,
      wantFault: 'wrong-key',
    },
    {
      what: 'a keyring with other secrets',
      entries: [...chain],
      options: { keyring: OTHER_KEYS },
      wantSeq: 1,
      wantFault: 'wrong-key',
    },
  ])('names $what: $wantFault at $wantSeq', ({ entries, options, wantSeq, wantFault }) => {
    try {
      verify(entries, options)
      expect.unreachable()
    } catch (error) {
      expect(error).toMatchObject({
        code: 'CHAIN_BROKEN',
        details: {
          seq: wantSeq,
          fault: wantFault,
          expected: expect.anything() as object,
          found: expect.anything() as object,
        },
      })
    }
  })

  it('refuses heads that contradict each other', () => {
    expect(() => verify([], { knownHeads: [head(3), { seq: 3, hash: '0'.repeat(64) }] })).toThrow(
      expect.objectContaining({ details: expect.objectContaining({ fault: 'fork' }) as object }),
    )
    expect(() => verify([], { knownHeads: [{ seq: 0, hash: '1'.repeat(64) }] })).toThrow(
      expect.objectContaining({ code: 'CHAIN_BROKEN' }),
    )
  })

  it('verifies any true chain, and none with one flipped bit in what the hash covers', () => {
    const fields = ['commitment', 'hash', 'previous_hash', 'previous_trace_hash'] as const
    fc.assert(
      fc.property(
        fc.array(fc.constantFrom('a', 'b', 'c'), { minLength: 1, maxLength: 12 }),
        fc.nat(),
        fc.constantFrom(...fields),
        fc.nat(255),
        fc.boolean(),
        (traces, pick, field, bit, purged) => {
          const entries = makeChain(traces).map(({ link, record }) => ({ link, record: purged ? null : record }))
          expect(verify(entries).links).toBe(traces.length)
          const seq = (pick % traces.length) + 1
          const flipped = entries.map((entry) => {
            if (entry.link.seq !== seq) return entry
            const value = Buffer.from(entry.link[field])
            value[bit >> 3] = (value[bit >> 3] ?? 0) ^ (1 << (bit & 7))
            return { ...entry, link: { ...entry.link, [field]: value } }
          })
          expect(() => verify(flipped)).toThrow(
            expect.objectContaining({ details: expect.objectContaining({ seq }) as object }),
          )
        },
      ),
    )
  })
})
