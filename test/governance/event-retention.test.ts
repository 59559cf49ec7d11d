import pg from 'pg'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { uuidV7 } from '#runtime/identifier.ts'
import { startGovernanceStack, type GovernanceStack } from '#test/support/governance.ts'

let stack: GovernanceStack
let owner: pg.Client
beforeAll(async () => {
  stack = await startGovernanceStack({ env: { SIGNET_GOVERNANCE_EVENT_DAYS: '100' } })
  owner = new pg.Client(stack.adminUrl)
  await owner.connect()
  await owner.query("SELECT set_config('signet.tenant', 'acme', false)")
})
afterAll(async () => {
  await owner?.end()
  await stack?.stop()
})

type Violation = { readonly state: string; readonly resolvedDays: number | null }
/** An event, that many days old, with a violation and a try where one is asked for. */
async function event(days: number, violation: Violation | null = null): Promise<string> {
  const id = uuidV7()
  await owner.query(
    `INSERT INTO signet.compliance_events (tenant, id, source, event_type, details, made_by, created_at)
     VALUES ('acme', $1, 'activity', 'x', '{}', 'x', now() - make_interval(days => $2))`,
    [id, days],
  )
  if (violation === null) return id
  await owner.query(
    `INSERT INTO signet.compliance_violations (tenant, id, event_id, rule, severity, severity_rank, summary, state, resolved_by, resolved_at)
     VALUES ('acme', $1, $1, 'tier_policy_violation', 'medium', 3, 'x', $2, $3, now() - make_interval(days => $4))`,
    [id, violation.state, violation.resolvedDays === null ? null : 'somebody', violation.resolvedDays],
  )
  await owner.query(
    `INSERT INTO signet.resolution_attempts (tenant, id, violation_id, strategy, dry_run, outcome, detail, evidence)
     VALUES ('acme', $1, $1, 'auto-correction', true, 'would_act', 'x', '{}')`,
    [id],
  )
  return id
}
async function left(ids: readonly string[]): Promise<string[]> {
  const { rows } = await owner.query<{ id: string }>(
    'SELECT id FROM signet.compliance_events WHERE id = ANY($1) ORDER BY id',
    [ids],
  )
  return rows.map(({ id }) => id)
}

it('what is old and done goes, by an action in the ledger; what is young, or not done, stays', async () => {
  const gone = [await event(101), await event(300, { state: 'resolved', resolvedDays: 101 })]
  const kept = [
    await event(99),
    await event(300, { state: 'open', resolvedDays: null }),
    await event(300, { state: 'contained', resolvedDays: null }),
    await event(300, { state: 'resolved', resolvedDays: 99 }),
  ].sort()
  await stack.restart()
  await expect.poll(() => left(gone), { timeout: 60_000 }).toEqual([])
  expect(await left(kept)).toEqual(kept)
  const deletes = async () =>
    (await stack.events('acme')).filter(({ action, outcome }) => action === 'events.delete' && outcome === 'success')
  await expect.poll(async () => (await deletes()).length, { timeout: 60_000 }).toBe(1)
  expect(await deletes()).toMatchObject([
    { actor: 'system/event-retention', after: { events: 2, violations: 1, attempts: 1 } },
  ])
  expect((await stack.call('acme', 'GET', '/api/compliance/stats')).body).toMatchObject({
    totalEvents: 4,
    unresolvedCount: 2,
  })
})

it('the database lets nobody delete what is not resolved', async () => {
  const id = await event(300, { state: 'open', resolvedDays: null })
  const login = new pg.Client(stack.loginUrl)
  await login.connect()
  try {
    await login.query("SELECT set_config('signet.tenant', 'acme', false)")
    await login.query('DELETE FROM signet.resolution_attempts WHERE violation_id = $1', [id])
    await expect(login.query('DELETE FROM signet.compliance_violations WHERE id = $1', [id])).rejects.toThrow(
      'is not resolved',
    )
  } finally {
    await login.end()
  }
})
