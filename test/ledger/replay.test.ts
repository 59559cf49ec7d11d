import { randomBytes, randomUUID } from 'node:crypto'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { startLedgerStack, type LedgerStack } from '#test/support/ledger.ts'
import { buildEvent, createClient, lineOf } from '#test/support/producer.ts'

let stack: LedgerStack
beforeAll(async () => {
  stack = await startLedgerStack({
    ledgers: 2,
    identities: [
      { name: 'proxy', tenant: 'acme', producer_id: 'demo/api', scopes: ['audit:write'] },
      { name: 'auditor', tenant: 'acme', scopes: ['audit:read'] },
      { name: 'admin', tenant: 'acme', scopes: ['audit:admin'] },
      { name: 'globex-admin', tenant: 'globex', scopes: ['audit:admin'] },
    ],
  })
})
afterAll(() => stack?.stop())

type Replay = {
  state: string
  gaps: { from: number; to: number; missing: number }[]
  record: { event_id: string; seq: number } | null
  code?: string
}
async function replay(trace: string, body: unknown, { name = 'admin', ledger = 0 } = {}): Promise<Replay> {
  const answer = await createClient(stack.ledgers[ledger]?.url ?? '', stack.token(name)).post(
    `/api/audit/traces/${trace}/replay`,
    JSON.stringify(body),
  )
  return (await answer.json()) as Replay
}
const ASKED = { stage: 'validate', reason: 'case 12' }
/** A trace whose second event, its stage `validate`, is kept back: it is sent by calling what is returned. */
async function brokenTrace() {
  const [trace_id, session] = [randomBytes(16).toString('hex'), randomUUID()]
  const client = createClient(stack.ledgers[0]?.url ?? '', stack.token('proxy'))
  const [first, second, third] = (['transform', 'validate', 'approve'] as const).map((stage, index) =>
    lineOf({ session, spool_seq: index + 1, event: buildEvent({ trace_id, stage }) }),
  )
  await client.append([first ?? ''])
  await client.append([third ?? ''])
  return { trace_id, arrive: () => client.append([second ?? '']) }
}
const recorded = (trace: string) =>
  createClient(stack.ledgers[0]?.url ?? '', stack.token('auditor')).all(`&event_type=audit.replay&resource_id=${trace}`)

it('names the gap, is recorded once whoever asks and however often, and sees what arrives', async () => {
  const { trace_id, arrive } = await brokenTrace()
  const asked = await Promise.all([0, 1, 0, 1].map((ledger) => replay(trace_id, ASKED, { ledger })))
  expect(asked[0]).toMatchObject({ state: 'missing', gaps: [{ from: 2, to: 2, missing: 1 }] })
  expect(new Set(asked.map(({ record }) => JSON.stringify(record))).size).toBe(1)
  expect(await replay(trace_id, { ...ASKED, reason: 'case 13' })).toEqual(asked[0])
  const events = await recorded(trace_id)
  expect(events.map(({ event }) => event.event_id)).toEqual([asked[0]?.record?.event_id])
  expect(events[0]?.event).toMatchObject({
    outcome: 'unknown',
    context: { by: 'admin', stage: 'validate', state: 'missing', gaps: [{ producer_id: 'demo/api', from: 2, to: 2 }] },
  })

  await arrive()
  expect(await replay(trace_id, ASKED)).toMatchObject({ state: 'arrived', record: null, gaps: [{ missing: 0 }] })
  expect(await recorded(trace_id)).toHaveLength(1)
})

it('the request is no event of the trace: it makes no stage seen', async () => {
  const { trace_id } = await brokenTrace()
  await replay(trace_id, ASKED)
  const journey = await createClient(stack.ledgers[1]?.url ?? '', stack.token('auditor')).get<{
    events: unknown[]
    stages: { stage: string; state: string }[]
  }>(`/api/audit/traces/${trace_id}`)
  expect(journey.events).toHaveLength(2)
  expect(journey.stages.map(({ state }) => state)).toEqual(['not_reached', 'seen', 'missing', 'seen', 'not_reached'])
})

it('a stage that is not missing is not asked for', async () => {
  const { trace_id } = await brokenTrace()
  for (const [stage, wantState] of [
    ['ingest', 'not_missing'],
    ['publish', 'not_missing'],
    ['approve', 'arrived'],
  ])
    expect(await replay(trace_id, { ...ASKED, stage })).toMatchObject({ state: wantState, record: null })
  expect(await recorded(trace_id)).toEqual([])
})

it('is refused where it is none, of another tenant, or of who may not', async () => {
  const { trace_id } = await brokenTrace()
  expect((await replay(trace_id, ASKED, { name: 'globex-admin' })).code).toBe('NOT_FOUND')
  expect((await replay(trace_id, ASKED, { name: 'auditor' })).code).toBe('FORBIDDEN')
  expect((await replay('0'.repeat(31), ASKED)).code).toBe('REQUEST_INVALID')
  for (const body of [
    { stage: 'validate' },
    { ...ASKED, stage: 'other' },
    { ...ASKED, more: 1 },
    { ...ASKED, reason: 'a@example.org' },
  ])
    expect((await replay(trace_id, body)).code).toBe('REQUEST_INVALID')
})
