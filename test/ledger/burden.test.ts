import { randomBytes, randomUUID } from 'node:crypto'
import pg from 'pg'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { startLedgerStack, type LedgerStack } from '#test/support/ledger.ts'
import { buildLines, createClient } from '#test/support/producer.ts'

/** What one caller may cost the others. */
let stack: LedgerStack
let admin: pg.Client
const producer = () => createClient(stack.ledgers[0]?.url ?? '', stack.token('proxy'))

beforeAll(async () => {
  stack = await startLedgerStack()
  admin = new pg.Client(stack.wall.adminUrl)
  await admin.connect()
})
afterAll(async () => {
  await admin.end()
  await stack.stop()
})

test('a trace that somebody stuffs is shown in part', async () => {
  const trace_id = randomBytes(16).toString('hex')
  const session = randomUUID()
  const big = { trace_id, context: { stuffed: 'x'.repeat(900_000) } }
  for (let first = 1; first <= 40; first += 5) await producer().append(buildLines(session, first, 5, big))
  const response = await fetch(`${stack.ledgers[0]?.url}/api/audit/traces/${trace_id}`, { headers: producer().headers })
  const text = await response.text()
  expect(response.status).toBe(200)
  const journey = JSON.parse(text) as { truncated: boolean; complete: boolean; events: unknown[] }
  expect(journey).toMatchObject({ truncated: true, complete: false })
  expect(journey.events.length).toBeGreaterThan(1)
  expect(text.length).toBeLessThan(20 * 1024 * 1024)
})

test('readers of the public tree, who need no token, leave the database to those who append', async () => {
  const url = stack.ledgers[0]?.url ?? ''
  await admin.query('BEGIN; LOCK TABLE signet.tree_checkpoints IN ACCESS EXCLUSIVE MODE')
  const flood = Array.from({ length: 60 }, (_, index) =>
    fetch(url + (index % 2 === 0 ? '/log/checkpoint' : `/log/tile/0/${String(index).padStart(3, '0')}`)),
  )
  try {
    await new Promise((resolve) => setTimeout(resolve, 1_000))
    const appended = await Promise.race([
      producer().append(buildLines(randomUUID(), 1, 1)),
      new Promise((resolve) => setTimeout(resolve, 4_000, 'kept waiting')),
    ])
    expect(appended).toMatchObject({ version: 1 })
  } finally {
    await admin.query('ROLLBACK')
    await Promise.all(flood)
  }
})
