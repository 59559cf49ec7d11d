import { randomUUID } from 'node:crypto'
import pg from 'pg'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { startLedgerStack, type LedgerStack } from '#test/support/ledger.ts'
import { buildEvent, buildLines, buildStamp, createClient, lineOf, stampHashOf } from '#test/support/producer.ts'

let stack: LedgerStack
let admin: pg.Client
const client = () => createClient(stack.ledgers[0]?.url ?? '', stack.token('proxy'))
const TRACE = '0af7651916cd43dd8448eb211c80319c'
const TABLES = ['links', 'records', 'compliance_stamps']

beforeAll(async () => {
  stack = await startLedgerStack()
  const session = randomUUID()
  const event = buildEvent({ trace_id: TRACE })
  const stamp = buildStamp({ tenant: 'acme', producerId: 'demo/api', event })
  // seq 1: opened, 2 to 6, 7 with a stamp, 8 to 10; 2 to 7 are one trace.
  await client().append(buildLines(session, 1, 5, { trace_id: TRACE, actor: 'user:alice' }))
  await client().append([lineOf({ session, spool_seq: 6, event: { ...event, stamp_hash: stampHashOf(stamp) }, stamp })])
  await client().append(buildLines(session, 7, 3))
  await createClient(stack.ledgers[0]?.url ?? '', stack.token('globex-proxy')).append(buildLines(randomUUID(), 1, 3))
  admin = new pg.Client(stack.wall.adminUrl)
  await admin.connect()
})
afterAll(async () => {
  await admin.end()
  await stack.stop()
})

describe('an untouched chain', () => {
  test.each([
    { query: '', wantChecked: 10 },
    { query: '?from_seq=4&to_seq=8', wantChecked: 5 },
    { query: '?to_seq=3', wantChecked: 3 },
    { query: '?from_seq=9&to_seq=99', wantChecked: 2 },
    { query: `?trace_id=${TRACE}`, wantChecked: 6 },
    { query: `?trace_id=${'f'.repeat(32)}`, wantChecked: 0 },
  ])('verifies: $query', async ({ query, wantChecked }) => {
    const verdict = await client().verify(query)
    expect(verdict).toMatchObject({ ok: true, checked: wantChecked, head: { seq: 10 } })
    expect(verdict.first_bad).toBeUndefined()
  })

  test('and contains a checkpoint that was given out', async () => {
    const { head } = await client().verify()
    expect(await client().verify(`?checkpoint_seq=${head.seq}&checkpoint_hash=${head.hash}`)).toMatchObject({
      ok: true,
    })
    const other = await client().verify(`?checkpoint_seq=5&checkpoint_hash=${'a'.repeat(64)}`)
    expect(other).toMatchObject({ ok: false, first_bad: { seq: 5, fault: 'fork' } })
    const later = await client().verify(`?checkpoint_seq=11&checkpoint_hash=${'a'.repeat(64)}`)
    expect(later).toMatchObject({ ok: false, first_bad: { seq: 11, fault: 'truncate' } })
  })
})

const acme = "tenant = 'acme'"
/** A change by a superuser who has switched the triggers off. All of these are undone afterwards: the triggers roll back with them. */
const tamperings: { name: string; sql: string; wantSeq: number; wantFault: string; inTrace?: boolean }[] = [
  {
    name: 'bytes',
    sql: `UPDATE signet.records SET bytes = convert_to(replace(convert_from(bytes, 'UTF8'), 'subject:', 'subjekt:'), 'UTF8') WHERE ${acme} AND seq = 3`,
    wantSeq: 3,
    wantFault: 'edit',
    inTrace: true,
  },
  {
    name: 'nonce',
    sql: `UPDATE signet.records SET nonce = sha256('') WHERE ${acme} AND seq = 3`,
    wantSeq: 3,
    wantFault: 'edit',
    inTrace: true,
  },
  ...[
    "actor = 'user:mallory'",
    "action = 'PUT'",
    "resource = '/other'",
    "stage = 'ingest'",
    "outcome = 'denied'",
    "request_id = 'r'",
    "trace_id = repeat('a', 32)",
    "event_type = 'x'",
    'event_id = gen_random_uuid()',
    'session = gen_random_uuid()',
    'session = NULL',
    'spool_seq = 99',
    "producer_id = 'p'",
    "region = 'eu'",
    "data_domain = 'd'",
    "resource_type = 't'",
    "resource_id = 'i'",
    "stamp_hash = 'sha256:0'",
    `"timestamp" = "timestamp" + interval '1 microsecond'`,
    "received_at = received_at - interval '1 day'",
    "month = month - interval '1 month'",
  ].map((change) => ({
    name: `projection ${change}`,
    sql: `UPDATE signet.records SET ${change} WHERE ${acme} AND seq = 4`,
    wantSeq: 4,
    wantFault: 'edit',
    inTrace: true,
  })),
  {
    name: 'a record gone',
    sql: `DELETE FROM signet.records WHERE ${acme} AND seq = 5`,
    wantSeq: 5,
    wantFault: 'delete',
    inTrace: true,
  },
  {
    name: 'link and record gone',
    sql: `DELETE FROM signet.records WHERE ${acme} AND seq = 5; DELETE FROM signet.links WHERE ${acme} AND seq = 5`,
    wantSeq: 5,
    wantFault: 'delete',
  },
  {
    name: 'only the link gone',
    sql: `DELETE FROM signet.links WHERE ${acme} AND seq = 5`,
    wantSeq: 5,
    wantFault: 'delete',
  },
  {
    name: 'the first gone',
    sql: `DELETE FROM signet.links WHERE ${acme} AND seq = 1`,
    wantSeq: 1,
    wantFault: 'delete',
  },
  {
    name: 'the last links cut off, not their records',
    sql: `DELETE FROM signet.links WHERE ${acme} AND seq > 8`,
    wantSeq: 9,
    wantFault: 'truncate',
  },
  { name: 'all links gone', sql: `DELETE FROM signet.links WHERE ${acme}`, wantSeq: 1, wantFault: 'truncate' },
  {
    name: 'gone, and the rest renumbered',
    sql: `DELETE FROM signet.records WHERE ${acme} AND seq = 5; DELETE FROM signet.links WHERE ${acme} AND seq = 5; UPDATE signet.links SET seq = seq + 999 WHERE ${acme} AND seq > 5; UPDATE signet.links SET seq = seq - 1000 WHERE ${acme} AND seq > 5; UPDATE signet.records SET seq = seq + 999 WHERE ${acme} AND seq > 5; UPDATE signet.records SET seq = seq - 1000 WHERE ${acme} AND seq > 5`,
    wantSeq: 5,
    wantFault: 'delete',
  },
  {
    name: 'two exchanged',
    sql: ['links', 'records']
      .map(
        (table) =>
          `UPDATE signet.${table} SET seq = seq + 100 WHERE ${acme} AND seq IN (4, 5); UPDATE signet.${table} SET seq = 5 WHERE ${acme} AND seq = 104; UPDATE signet.${table} SET seq = 4 WHERE ${acme} AND seq = 105`,
      )
      .join(';'),
    wantSeq: 4,
    wantFault: 'reorder',
  },
  {
    name: 'records of two exchanged',
    sql: `UPDATE signet.records SET seq = 104 WHERE ${acme} AND seq = 4; UPDATE signet.records SET seq = 4 WHERE ${acme} AND seq = 5; UPDATE signet.records SET seq = 5 WHERE ${acme} AND seq = 104`,
    wantSeq: 4,
    wantFault: 'edit',
    inTrace: true,
  },
  ...[
    "commitment = sha256('')",
    "hash = sha256('')",
    "previous_hash = sha256('')",
    "previous_trace_hash = sha256('')",
    "trace_hmac = sha256('')",
    'event_id = gen_random_uuid()',
    "retention_class = 'x'",
    "month = month - interval '1 month'",
    "appended_at = appended_at - interval '1 day'",
  ].map((change) => ({
    name: `link ${change}`,
    sql: `UPDATE signet.links SET ${change} WHERE ${acme} AND seq = 6`,
    wantSeq: 6,
    wantFault: 'edit',
  })),
  {
    name: 'key id',
    sql: `UPDATE signet.links SET key_id = 'other' WHERE ${acme} AND seq = 6`,
    wantSeq: 6,
    wantFault: 'wrong-key',
    inTrace: true,
  },
  {
    name: 'a link of another tenant moved in',
    sql: `UPDATE signet.records SET tenant = 'acme', seq = 11 WHERE tenant = 'globex' AND seq = 2; UPDATE signet.links SET tenant = 'acme', seq = 11 WHERE tenant = 'globex' AND seq = 2`,
    wantSeq: 11,
    wantFault: 'edit',
  },
  {
    name: 'a second record for a link',
    sql: `CREATE TEMP TABLE copy ON COMMIT DROP AS SELECT * FROM signet.records WHERE ${acme} AND seq = 6; UPDATE copy SET month = month - interval '1 month'; INSERT INTO signet.records SELECT * FROM copy`,
    wantSeq: 6,
    wantFault: 'insert',
    inTrace: true,
  },
  {
    name: 'the stamp',
    sql: `UPDATE signet.compliance_stamps SET stamp = stamp || ' ' WHERE ${acme}`,
    wantSeq: 7,
    wantFault: 'edit',
    inTrace: true,
  },
  {
    name: 'the stamp gone',
    sql: `DELETE FROM signet.compliance_stamps WHERE ${acme}`,
    wantSeq: 7,
    wantFault: 'delete',
    inTrace: true,
  },
  {
    name: 'two faults: the first is named',
    sql: `UPDATE signet.records SET actor = 'x' WHERE ${acme} AND seq = 3; UPDATE signet.links SET hash = sha256('') WHERE ${acme} AND seq = 4`,
    wantSeq: 3,
    wantFault: 'edit',
    inTrace: true,
  },
]

describe('a superuser goes around the triggers', () => {
  /** Runs the change for good, asks, and puts everything back. */
  async function tampered<T>(sql: string, ask: () => Promise<T>): Promise<T> {
    for (const table of TABLES) {
      await admin.query(`CREATE TABLE IF NOT EXISTS public.saved_${table} AS SELECT * FROM signet.${table}`)
      await admin.query(`ALTER TABLE signet.${table} DISABLE TRIGGER ALL`)
    }
    try {
      await admin.query(`BEGIN; ${sql}; COMMIT`)
      return await ask()
    } finally {
      await admin.query('ROLLBACK')
      for (const table of TABLES) {
        await admin.query(
          `BEGIN; DELETE FROM signet.${table}; INSERT INTO signet.${table} SELECT * FROM public.saved_${table}; COMMIT`,
        )
        await admin.query(`ALTER TABLE signet.${table} ENABLE ALWAYS TRIGGER refuse_change`)
      }
    }
  }

  test.each(tamperings)('$name: $wantFault at $wantSeq', async ({ sql, wantSeq, wantFault, inTrace }) => {
    const { whole, trace } = await tampered(sql, async () => ({
      whole: await client().verify(),
      trace: inTrace === true ? await client().verify(`?trace_id=${TRACE}`) : null,
    }))
    expect(whole).toMatchObject({ ok: false, first_bad: { seq: wantSeq, fault: wantFault } })
    expect(whole.checked).toBeLessThan(wantSeq)
    if (trace !== null) expect(trace).toMatchObject({ ok: false, first_bad: { seq: wantSeq, fault: wantFault } })
    expect(await client().verify()).toMatchObject({ ok: true, checked: 10 })
  })

  test('a list shows what is no longer what was committed to', async () => {
    const items = await tampered(
      `UPDATE signet.records SET bytes = bytes || ' ' WHERE ${acme} AND seq = 3; DELETE FROM signet.links WHERE ${acme} AND seq = 4`,
      () => client().all(),
    )
    expect(items.filter((item) => item.fault !== undefined).map((item) => [item.seq, item.fault, item.event])).toEqual([
      [4, 'unlinked', null],
      [3, 'edit', null],
    ])
  })
})
