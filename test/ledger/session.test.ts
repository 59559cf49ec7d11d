import { randomUUID } from 'node:crypto'
import { afterAll, beforeAll, expect, test } from 'vitest'
import pg from 'pg'
import { startLedgerStack, type LedgerStack } from '#test/support/ledger.ts'
import { buildLines, createClient, type LogItem } from '#test/support/producer.ts'

let stack: LedgerStack
const client = (name: string) => createClient(stack.ledgers[0]?.url ?? '', stack.token(name))
const typesOf = (items: LogItem[]): string[] =>
  items.toReversed().map((item) => item.event.event_type.replace('egress.', ''))

beforeAll(async () => {
  stack = await startLedgerStack()
})
afterAll(() => stack.stop())

test('a hole in the numbering is a gap in the chain, before what came after it', async () => {
  const session = randomUUID()
  const proxy = client('proxy')
  await proxy.open(session)
  await proxy.append(buildLines(session, 1, 2))
  await proxy.append(buildLines(session, 6, 1))
  const items = await proxy.all(`&session=${session}`)
  expect(typesOf(items)).toEqual(['audit.session.opened', 'decided', 'decided', 'audit.gap', 'decided'])
  expect(items[1]?.event.context).toMatchObject({ from: 3, to: 5 })
})

test('what arrives late fills its place and is no second gap', async () => {
  const session = randomUUID()
  const proxy = client('proxy')
  const late = buildLines(session, 1, 1)
  await proxy.append(buildLines(session, 2, 1))
  await proxy.append(late)
  await proxy.append(buildLines(session, 3, 1))
  expect(typesOf(await proxy.all(`&session=${session}`))).toEqual([
    'audit.session.opened',
    'audit.gap',
    'decided',
    'decided',
    'decided',
  ])
})

test('a position that is taken is not taken twice', async () => {
  const session = randomUUID()
  const proxy = client('proxy')
  await proxy.append(buildLines(session, 1, 3))
  const ack = await proxy.append(buildLines(session, 2, 1))
  expect(ack.refused).toMatchObject([{ code: 'SPOOL_SEQ_CONFLICT' }])
})

test.each([
  { name: 'clean and complete', sent: 3, last: 3, clean: true, wantGaps: [] },
  { name: 'clean with a missing tail', sent: 3, last: 5, clean: true, wantGaps: [{ from: 4, to: 5 }] },
  { name: 'not clean', sent: 3, last: 3, clean: false, wantGaps: [{ from: 4, to: null }] },
  {
    name: 'not clean with a missing tail',
    sent: 3,
    last: 4,
    clean: false,
    wantGaps: [
      { from: 4, to: 4 },
      { from: 5, to: null },
    ],
  },
])('close, $name', async ({ sent, last, clean, wantGaps }) => {
  const session = randomUUID()
  const proxy = client('proxy')
  await proxy.open(session)
  await proxy.append(buildLines(session, 1, sent))
  for (const attempt of ['first', 'again'] as const) {
    const response = await proxy.close(session, last, clean)
    expect([attempt, response.status]).toEqual([attempt, 200])
    expect(await response.json()).toMatchObject({ version: 1, session, recorded_spool_seq: sent })
  }
  const items = await proxy.all(`&session=${session}`)
  const gaps = items.toReversed().filter((item) => item.event.event_type === 'audit.gap')
  expect(gaps.map((item) => item.event.context)).toMatchObject(wantGaps)
  expect(items[0]?.event.event_type).toBe('audit.session.closed')
  expect(items.filter((item) => item.event.event_type === 'audit.session.closed')).toHaveLength(1)
})

test('another producer can neither write into a session, nor open it, nor close it', async () => {
  const session = randomUUID()
  await client('proxy').append(buildLines(session, 1, 1))
  const second = client('second')
  const ack = await second.append(buildLines(session, 2, 1))
  expect(ack.refused).toMatchObject([{ code: 'SESSION_FORBIDDEN' }])
  expect((await second.open(session)).status).toBe(403)
  expect((await second.close(session, 1)).status).toBe(403)
  expect((await second.close(randomUUID(), 1)).status).toBe(404)
  // Of another tenant it is not even known.
  expect((await client('globex-proxy').close(session, 1)).status).toBe(404)
  // The attempt is recorded, and not in the session.
  expect(typesOf(await client('proxy').all(`&session=${session}`))).toEqual(['audit.session.opened', 'decided'])
})

test('the work database knows how far each session came', async () => {
  const session = randomUUID()
  const proxy = client('proxy')
  await proxy.open(session)
  await proxy.append(buildLines(session, 1, 4))
  await proxy.close(session, 4)
  const db = new pg.Client(stack.work.adminUrl)
  await db.connect()
  const { rows } = await db.query('SELECT state, last_spool_seq, software FROM signet.sessions WHERE session = $1', [
    session,
  ])
  await db.end()
  expect(rows).toEqual([{ state: 'closed', last_spool_seq: '4', software: 'signet-test/1' }])
})
