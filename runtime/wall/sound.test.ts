import { createSecretKey } from 'node:crypto'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { projectRecord, sealRecord, type SealedRecord } from '#core/audit/record.ts'
import { commitment, linkHash } from '#core/chain/link.ts'
import { traceMark } from '#core/chain/mark.ts'
import { checkStored } from '#core/chain/stored.ts'
import { linkAt, recordAt } from './chain.ts'
import { LINK, LINK_WIDTH, RECORD, RECORD_WIDTH } from './columns.ts'
import { CopyArena, CopyTable } from './copy.ts'
import { SoundLinks } from './sound.ts'

const TENANT = 'acme'
const KEY = createSecretKey(Buffer.alloc(32, 7))
const KEYS = {
  chainKey: (keyId: string) => (keyId === 'chain-1' ? { keyId, secret: KEY } : undefined) as never,
  traceMark: (tenant: string, traceId: string) => traceMark(KEY, tenant, traceId),
}
const NONCE = Buffer.alloc(32, 1)
const TRACE = '0af7651916cd43dd8448eb211c80319c'
const EPOCH_2000 = Date.UTC(2000, 0)

type Field = Buffer | null
type Row = Field[]

const text = (value: string | null): Field => (value === null ? null : Buffer.from(value))
const uuid = (value: string | null): Field => (value === null ? null : Buffer.from(value.replaceAll('-', ''), 'hex'))
const bigint = (value: number | null): Field => {
  if (value === null) return null
  const bytes = Buffer.alloc(8)
  bytes.writeBigInt64BE(BigInt(value))
  return bytes
}
const integer = (value: number): Field => {
  const bytes = Buffer.alloc(4)
  bytes.writeInt32BE(value)
  return bytes
}
const time = (value: string): Field => bigint((Date.parse(value) - EPOCH_2000) * 1_000)
const date = (value: string): Field => integer((Date.parse(value) - EPOCH_2000) / 86_400_000)

/** Rows as COPY sends them (PostgreSQL documentation, COPY, "Binary Format"). */
function tableOf(width: number, rows: readonly Row[]): CopyTable {
  const parts = rows.flatMap((row) => [
    Buffer.from([0, row.length]),
    ...row.flatMap((field) => (field === null ? [integer(-1)!] : [integer(field.length)!, field])),
  ])
  return new CopyTable(Buffer.concat([Buffer.alloc(19), ...parts, Buffer.from([255, 255])]), width, new CopyArena())
}

function record(changes: Partial<SealedRecord['event']> = {}, around: Partial<SealedRecord> = {}): SealedRecord {
  return {
    v: 1,
    event: {
      event_id: '207f7be5-95c3-46e1-9333-5c645814b57f',
      event_type: 'egress.decided',
      timestamp_utc: '2026-11-25T15:12:16.150Z',
      trace_id: TRACE,
      request_id: 'r-1',
      actor: 'service:a',
      tenant: TENANT,
      stage: 'publish',
      action: 'GET',
      resource: '/reports/7',
      before: null,
      after: { total: 12.5, of: ['a', 1, true] },
      outcome: 'allowed',
      latency_ms: 1.5,
      stamp_hash: null,
      ...changes,
    },
    producer_id: 'demo/api',
    received_at: '2026-11-25T15:12:16.673Z',
    session: '4d8c90b7-cb63-45a4-bb15-5cc582a0ea22',
    spool_seq: 498,
    stamp_hash: null,
    ...around,
  }
}

function rowsOf(sealed: SealedRecord, bytes = sealRecord(sealed)): { link: Row; record: Row } {
  const columns = projectRecord(sealed)
  const committed = commitment(NONCE, bytes)
  const previous = Buffer.alloc(32, 2)
  const hash = linkHash({
    key: KEY,
    previousHash: previous,
    previousTraceHash: previous,
    commitment: committed,
    seq: 9,
    tenant: TENANT,
  })
  const mark = traceMark(KEY, TENANT, sealed.event.trace_id)
  const month = date(columns.month)
  const at = time(columns.received_at)
  const id = uuid(columns.event_id)
  return {
    link: [bigint(9), id, committed, hash, previous, previous, text('chain-1'), mark, text('default'), month, at],
    record: [
      bigint(9),
      integer(32),
      Buffer.concat([NONCE, bytes]),
      text('default'),
      time(columns.timestamp),
      at,
      month,
      id,
      ...[columns.event_type, columns.actor, columns.action, columns.resource].map(text),
      ...[columns.resource_type, columns.resource_id, columns.stage, columns.outcome].map(text),
      ...[columns.trace_id, columns.request_id].map(text),
      uuid(columns.session),
      bigint(columns.spool_seq),
      ...[columns.producer_id, columns.region, columns.data_domain, columns.stamp_hash].map(text),
    ],
  }
}

function isSound(rows: { link: Row; record: Row }): boolean {
  const [links, records] = [tableOf(LINK_WIDTH, [rows.link]), tableOf(RECORD_WIDTH, [rows.record])]
  return new SoundLinks(KEYS, TENANT).isSound(links, 0, records, 0)
}

/** Whether the checks that name faults find it sound. */
function isFoundSound(rows: { link: Row; record: Row }): boolean {
  const [links, records] = [tableOf(LINK_WIDTH, [rows.link]), tableOf(RECORD_WIDTH, [rows.record])]
  try {
    const [link, stored] = [linkAt(links, 0, TENANT), recordAt(records, 0)]
    const { commitment: committed, previous_hash: previousHash, previous_trace_hash: previousTraceHash, seq } = link
    const hash = linkHash({ key: KEY, previousHash, previousTraceHash, commitment: committed, seq, tenant: TENANT })
    if (!commitment(stored.nonce, stored.bytes).equals(committed) || !hash.equals(link.hash)) return false
    if (!link.trace_hmac.equals(traceMark(KEY, TENANT, stored.trace_id)) || link.key_id !== 'chain-1') return false
    checkStored(link, [stored], () => undefined)
    return true
  } catch {
    return false
  }
}

const RECORDS: readonly [string, SealedRecord][] = [
  ['the least', record()],
  [
    'with every member',
    record({
      resource_type: 'report',
      resource_id: '7',
      region: 'eu',
      data_domain: 'finance',
      source: 'demo/api',
      context: { note: 'a "quoted"\n\\ word', n: [0, -1, 1e21] },
      stamp_hash: `sha256:${'0f'.repeat(32)}`,
    }),
  ],
  ['of the ledger itself', record({}, { session: null, spool_seq: null })],
  ['the opening of a session', record({ latency_ms: 0 }, { spool_seq: 0 })],
  ['text beyond ASCII in a column', record({ actor: 'service:jürgen', resource: '/отчёт/€' })],
  ['a leap day', record({ timestamp_utc: '2024-02-29T23:59:59.999Z' }, { received_at: '2024-02-29T00:00:00.000Z' })],
  ['before 2000', record({ timestamp_utc: '1969-12-31T23:59:59.001Z' })],
]

describe('SoundLinks', () => {
  it.each(RECORDS)('vouches for a record: %s', (_, sealed) => {
    expect(isFoundSound(rowsOf(sealed))).toBe(true)
    expect(isSound(rowsOf(sealed))).toBe(true)
  })

  it.each([
    ['an escape in a column', record({ actor: 'service:"a"' })],
    ['a column that cannot hold what the bytes hold', record({ actor: 'a\0b' })],
    ['a context beyond ASCII', record({ context: { a: 'ü' } })],
    ['another tenant in the event', record({ tenant: 'globex' })],
    ['another source', record({ source: 'somebody' })],
  ])('leaves to others what is sound, and written in another way: %s', (_, sealed) => {
    expect(isFoundSound(rowsOf(sealed))).toBe(true)
    expect(isSound(rowsOf(sealed))).toBe(false)
  })

  it.each([
    ['a name that nobody defined', { ...record(), more: 1 }],
    ['no name of a stage', record({ stage: 'other' as never })],
    ['no name of an outcome', record({ outcome: 'maybe' as never })],
    ['a negative latency', record({ latency_ms: -1 })],
    ['no trace id', record({ trace_id: '0'.repeat(32) })],
    ['no digest', record({ stamp_hash: 'sha256:0' })],
    ['no text where one has to be', record({ action: '' })],
    ['a context that is no object', record({ context: [] as never })],
  ])('does not vouch for bytes that are no record, however well the key made them: %s', (_, sealed) => {
    expect(isFoundSound(rowsOf(sealed))).toBe(false)
    expect(isSound(rowsOf(sealed))).toBe(false)
  })

  it('does not vouch for other ways to write the same', () => {
    const [, sealed] = RECORDS[0]!
    const canonical = sealRecord(sealed).toString()
    for (const other of [
      ` ${canonical}`,
      `${canonical} `,
      canonical.replace('1.5', '1.50'),
      canonical.replace('GET', '\\u0047ET'),
    ])
      expect(isSound(rowsOf(sealed, Buffer.from(other))), other).toBe(false)
  })

  it('vouches for no row of which a byte was changed, nor one that was cut, lengthened, or made NULL', () => {
    const change = fc.record({
      which: fc.constantFrom(...RECORDS),
      table: fc.constantFrom('link' as const, 'record' as const),
      column: fc.nat(),
      place: fc.nat(),
      bit: fc.nat({ max: 7 }),
      how: fc.constantFrom('flip', 'cut', 'lengthen', 'null'),
    })
    fc.assert(
      fc.property(change, ({ which: [, sealed], table, column, place, bit, how }) => {
        const rows = rowsOf(sealed)
        const row = rows[table]
        // A record's number is what it was found by.
        const at = table === 'record' ? 1 + (column % (row.length - 1)) : column % row.length
        const field = row[at] ?? Buffer.from('x')
        const isSized = [4, 8, 16].includes(field.length)
        if (how === 'null') row[at] = at === 0 || row[at] === null ? Buffer.from('12345678') : null
        else if (how === 'cut' && field.length > 1 && !isSized) row[at] = field.subarray(0, -1)
        else if (how === 'lengthen' && !isSized) row[at] = Buffer.concat([field, Buffer.from('x')])
        else {
          const changed = Buffer.from(field)
          changed[place % changed.length]! ^= 1 << bit
          row[at] = changed
        }
        expect(isSound(rows)).toBe(false)
      }),
      { numRuns: 2_000 },
    )
  })

  it('vouches only for what the others find sound, whatever the key made', () => {
    const word = fc.oneof(fc.string({ maxLength: 12 }), fc.constantFrom('a', '"', '\\', '\u0000', 'ü', 'x'.repeat(600)))
    const mostly = (usual: unknown, other: fc.Arbitrary<unknown>) =>
      fc.oneof({ weight: 15, arbitrary: fc.constant(usual) }, { weight: 1, arbitrary: other })
    const name = fc.stringMatching(/^[a-z ]{0,4}$/)
    const made = fc.record({
      actor: mostly('a', word),
      action: mostly('GET', word),
      resource: mostly('/', word),
      request_id: mostly('r', word),
      event_type: mostly('t', word),
      stage: mostly('publish', word),
      latency_ms: fc.oneof(fc.double({ min: 0, max: 1e300, noNaN: true }), fc.nat(), mostly(0, fc.double({ max: 0 }))),
      after: fc.jsonValue(),
      context: mostly({}, fc.oneof(fc.dictionary(name, fc.jsonValue({ maxDepth: 2 })), fc.jsonValue())),
      region: mostly(undefined, word),
    })
    const spoiled = mostly(null, fc.record({ at: fc.nat(), put: fc.constantFrom(...Array.from('"\\{}[]:,019.- ')) }))
    let vouched = 0
    fc.assert(
      fc.property(made, spoiled, ({ region, ...changes }, spoil) => {
        const sealed = record({ ...changes, ...(region === undefined ? {} : { region }) } as never)
        let bytes: Buffer
        try {
          bytes = sealRecord(sealed)
          projectRecord(sealed)
        } catch {
          return
        }
        const { at, put } = (spoil ?? { at: 0, put: '' }) as { at: number; put: string }
        bytes.write(put, at % bytes.length)
        const rows = rowsOf(sealed, bytes)
        if (!isSound(rows)) return
        vouched += 1
        expect(isFoundSound(rows)).toBe(true)
      }),
      { numRuns: 2_000 },
    )
    expect(vouched).toBeGreaterThan(50)
  })

  it.each(['"', '\\', '\u0001', '\n'])(
    'does not vouch for a text with %j as it is, though the column has the same',
    (raw) => {
      const sealed = record({ actor: 'service:Q' })
      const rows = rowsOf(sealed, Buffer.from(sealRecord(sealed).toString().replace('service:Q', `service:${raw}`)))
      rows.record[RECORD.actor] = Buffer.from(`service:${raw}`)
      expect(isFoundSound(rows)).toBe(false)
      expect(isSound(rows)).toBe(false)
    },
  )

  it.each([
    ['month', LINK.month, RECORD.month, date('2026-10-01')],
    ['received_at', LINK.appended_at, RECORD.received_at, time('2026-11-25T15:12:16.674Z')],
    ['event_id', LINK.event_id, RECORD.event_id, uuid('207f7be5-95c3-46e1-9333-5c645814b57e')],
  ])('does not vouch for a %s that was changed in both tables alike', (_, link, stored, value) => {
    const rows = rowsOf(record())
    rows.link[link] = value
    rows.record[stored] = value
    expect(isFoundSound(rows)).toBe(false)
    expect(isSound(rows)).toBe(false)
  })
})
