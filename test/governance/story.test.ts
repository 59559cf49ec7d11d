import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { exportRecords } from '#test/dogfood/export.ts'
import { FIRST_PASSWORD, startGovernanceStack, type Called, type GovernanceStack } from '#test/support/governance.ts'
import { startObjectStore, type TestObjectStore } from '#test/support/object-store.ts'

/** Whole journeys through governance, from what went wrong to its end. (An approval that lets a response pass: workflows.test.ts.) */
let stack: GovernanceStack
let store: TestObjectStore
let admin: string
beforeAll(async () => {
  store = await startObjectStore()
  await store.createBucket('signet-governance-evidence', { lock: false })
  stack = await startGovernanceStack({
    env: {
      SIGNET_EVIDENCE_ENDPOINT: store.endpoint,
      AWS_ACCESS_KEY_ID: store.credentials.accessKeyId,
      AWS_SECRET_ACCESS_KEY: store.credentials.secretAccessKey,
    },
  })
  admin = (await call('GET', '/api/v1/users')).body.items[0].id
})
afterAll(async () => {
  await stack?.stop()
  await store?.stop()
})

async function call(method: string, url: string, body?: unknown, token?: string | null): Promise<Called> {
  const answer = await stack.call('acme', method, url, body, token)
  expect(answer.status, `${method} ${url}: ${JSON.stringify(answer.body)}`).toBeLessThan(300)
  return answer
}
type Control = { id: string; status: string; evidence: { fresh: number; stale: number } }
async function fedramp(): Promise<{ percent: number; control: Control | undefined }> {
  const { score, controls } = (await call('GET', '/api/compliance?framework=fedramp')).body.items[0]
  return { percent: score.percent, control: (controls as Control[]).find(({ id }) => id === 'IA-2') }
}

describe('a failed scan', () => {
  it('becomes a remediation, is fixed, verified by its rule, becomes evidence, and the score of the checklist goes up', async () => {
    const before = await fedramp()
    expect(before.control).toMatchObject({ evidence: { fresh: 0 } })
    const failed = (await call('POST', '/api/scans', { rule_ids: ['nist-mfa-001'] })).body
    expect(failed).toMatchObject({ failed: 1, passed: 0 })
    const [result] = (await call('GET', `/api/scans/${failed.id}/results`)).body.items
    const [action] = (await call('GET', `/api/remediation/?result_id=${result.id}`)).body.items
    expect(action).toMatchObject({ status: 'open', verified: false })
    const remediation = `/api/remediation/${action.id}`
    await call('POST', `${remediation}/assign`, { assigned_to: admin })
    await call('POST', `${remediation}/status`, { status: 'in_progress' })
    const early = await stack.call('acme', 'POST', `${remediation}/verify`, { verified: true })
    expect(early.status).toBe(409)

    await call('PATCH', `/api/v1/users/${admin}`, { mfa_enabled: true })
    expect((await call('POST', `${remediation}/verify`, { verified: true })).body).toMatchObject({ verified: true })
    await call('POST', `${remediation}/status`, { status: 'resolved' })
    await call('POST', `${remediation}/status`, { status: 'closed' })

    const passed = (await call('POST', '/api/scans', { rule_ids: ['nist-mfa-001'] })).body
    const evidence = (await call('POST', '/api/v1/evidence/collect', { kind: 'scan', scan_id: passed.id })).body
    expect(evidence.controls).toContainEqual({ framework: 'fedramp', control: 'IA-2' })
    await call('PATCH', '/api/compliance', {
      framework: 'fedramp',
      control: 'IA-2',
      status: 'implemented',
      owner: 'Ines',
      note: 'Every account has a second factor',
      evidence: [`https://governance.example/api/v1/evidence/${evidence.id}`],
      valid_until: new Date(Date.now() + 86_400_000).toISOString(),
    })
    // What Signet sees by itself is looked at every half minute.
    await expect
      .poll(fedramp, { timeout: 90_000, interval: 1_000 })
      .toMatchObject({ control: { status: 'implemented', evidence: { fresh: 1, stale: 0 } } })
    const after = await fedramp()
    expect(after.percent).toBeGreaterThan(before.percent)
  })
})

describe('an event', () => {
  it('is a violation, is resolved by a connector, looked at again, and closed', async () => {
    await call('PUT', '/api/compliance/resolution-settings', { mode: 'on' })
    const email = 'agent@acme.example'
    await call('POST', '/api/v1/users', { email, name: 'Agent', password: FIRST_PASSWORD })
    const signedIn = await call('POST', '/api/v1/session', { tenant: 'acme', email, password: FIRST_PASSWORD }, null)
    const details = { actor: email, records: 50_000 }
    const { violations } = (
      await call('POST', '/api/compliance/event', { source: 'data_access', eventType: 'read', details })
    ).body
    expect(violations).toMatchObject([{ rule: 'unusual_client_data_activity' }])
    const violation = async () =>
      (await stack.call('acme', 'GET', `/api/compliance/violations/${violations[0].id}`)).body
    await expect.poll(violation, { timeout: 60_000, interval: 300 }).toMatchObject({ state: 'resolved' })
    expect((await stack.call('acme', 'GET', '/api/v1/session', undefined, signedIn.body.token)).status).toBe(401)
    expect((await call('GET', '/api/compliance/stats')).body).toMatchObject({ totalViolations: 1, unresolvedCount: 0 })
    const told = (await stack.events('acme')).filter(({ resource }) => resource.endsWith(violations[0].id))
    expect(told.map(({ event_type, actor }) => `${event_type} ${actor}`)).toEqual(
      expect.arrayContaining([expect.stringMatching(/^governance\.outcome system\//)]),
    )
  })
})

describe('both', () => {
  it('are in the ledger whole, and what it exports of them proves itself with no network', async () => {
    const told = await stack.events('acme')
    for (const kind of ['scans', 'remediation', 'users', 'evidence', 'violations'])
      expect(told.filter(({ resource }) => resource.includes(kind)).length, kind).toBeGreaterThan(1)
    const { eventIds, verified } = await exportRecords(stack, 'acme')
    expect(verified).toBe(true)
    expect(told.map(({ event_id }) => event_id).filter((id) => !eventIds.has(id))).toEqual([])
  })
})
