import pg from 'pg'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { startGovernanceStack, type GovernanceStack } from '#test/support/governance.ts'

/** Checklists on real metadata: what the checks see changes when the thing itself changes, and what people say never hides it. */
let stack: GovernanceStack
beforeAll(async () => {
  stack = await startGovernanceStack()
})
afterAll(() => stack?.stop())

type Assessed = {
  id: string
  status: string
  basis: string
  check: string | null
  result: { result: string; detail: string } | null
  statement: { version: number; expired: boolean; owner: string } | null
}
type Checklist = {
  framework: string
  score: { percent: number; total: number; implemented: number }
  controls: Assessed[]
}

async function checklist(framework: string, tenant = 'acme'): Promise<Checklist> {
  return (await stack.call(tenant, 'GET', `/api/compliance?framework=${framework}`)).body.items[0]
}
async function control(framework: string, id: string): Promise<Assessed> {
  return (await checklist(framework)).controls.find((each) => each.id === id)!
}
const say = (framework: string, control: string, said: object, tenant = 'acme') =>
  stack.call(tenant, 'PATCH', '/api/compliance', { framework, control, ...said })
/** Checks look again at most twice a minute; a process that starts looks at once. */
const lookAgain = () => stack.restart()
async function asOwner(sql: string): Promise<void> {
  const client = new pg.Client(stack.adminUrl)
  await client.connect()
  try {
    await client.query(sql)
  } finally {
    await client.end()
  }
}

it('has every framework, with how much of it is looked at by itself', async () => {
  const { body } = await stack.call('acme', 'GET', '/api/v1/regulations')
  expect(body.items.map(({ id }: { id: string }) => id)).toEqual([
    'eu_ai_act',
    'fedramp',
    'gdpr',
    'hipaa',
    'iso27001',
    'iso42001',
    'soc2',
    'sox',
  ])
  for (const { id, controls, automation } of body.items) {
    expect(automation.full + automation.partial + automation.none).toBe(controls)
    const list = await stack.call('acme', 'GET', `/api/v1/regulations/${id}/controls`)
    expect(list.body.items).toHaveLength(controls)
  }
  expect((await stack.call('acme', 'GET', '/api/v1/regulations/nowhere/controls')).status).toBe(404)
})

it('at the beginning no control is implemented that nobody vouches for, but those that are fully automatic', async () => {
  const { body } = await stack.call('acme', 'GET', '/api/compliance')
  for (const { framework, controls, score } of body.items as Checklist[]) {
    const implemented = controls.filter(({ status }) => status === 'implemented').map(({ id }) => id)
    expect([framework, implemented]).toEqual([framework, framework === 'fedramp' ? ['AC-7'] : []])
    expect(score.total).toBe(controls.length)
    for (const { check, result } of controls) expect(result === null).toBe(check === null)
  }
})

describe('what a check sees', () => {
  it('the chain of the ledger: verified, and not when a record was changed', async () => {
    expect((await control('hipaa', '164.312(b)')).result).toEqual({
      result: 'met',
      detail: expect.stringMatching(/^records 1 to \d+ verify/),
    })
    await say('hipaa', '164.312(b)', { status: 'implemented', owner: 'audit' })
    expect((await control('hipaa', '164.312(b)')).status).toBe('implemented')

    const client = new pg.Client(stack.ledger.wall.adminUrl)
    await client.connect()
    await client.query('SET session_replication_role = replica; ALTER TABLE signet.records DISABLE TRIGGER ALL')
    const { rows } = await client.query(
      "SELECT tableoid::regclass::text AS part FROM signet.records WHERE tenant = 'acme' AND seq = 2",
    )
    await client.query(`ALTER TABLE ${rows[0].part} DISABLE TRIGGER ALL`)
    await client.query("UPDATE signet.records SET actor = 'somebody else' WHERE tenant = 'acme' AND seq = 2")
    await lookAgain()
    expect(await control('hipaa', '164.312(b)')).toMatchObject({
      // Said to be implemented, and it is not.
      status: 'in_progress',
      basis: 'check and statement',
      result: { result: 'not_met', detail: expect.stringContaining('does not verify') },
    })
    await client.end()
  })
  it('row-level security that somebody switched off', async () => {
    expect((await control('soc2', 'CC6.1')).result?.result).toBe('met')
    await asOwner('ALTER TABLE signet.users NO FORCE ROW LEVEL SECURITY')
    await lookAgain()
    expect((await control('soc2', 'CC6.1')).result).toEqual({
      result: 'not_met',
      detail: 'row-level security is not in force on users',
    })
    await asOwner('ALTER TABLE signet.users FORCE ROW LEVEL SECURITY')
    await lookAgain()
    expect((await control('soc2', 'CC6.1')).result?.result).toBe('met')
  })
  it('a shipped role that somebody widened, until the next start puts it right', async () => {
    const widen = `INSERT INTO signet.role_permissions SELECT tenant, id, 'write', 'policies', 'all' FROM signet.roles WHERE tenant = 'acme' AND name = 'Viewer'`
    await lookAgain()
    await asOwner(widen)
    expect((await control('soc2', 'CC1.3')).result).toEqual({
      result: 'not_met',
      detail: expect.stringContaining('Viewer'),
    })
    await lookAgain()
    expect((await control('soc2', 'CC1.3')).result?.result).toBe('met')
  })
  it('users without a second factor, and sign-ins', async () => {
    expect((await control('fedramp', 'IA-2')).result).toEqual({
      result: 'not_met',
      detail: '1 active users with a password have no second factor',
    })
    const { items } = (await stack.call('acme', 'GET', '/api/v1/users')).body
    await stack.call('acme', 'PATCH', `/api/v1/users/${items[0].id}`, { mfa_enabled: true })
    await lookAgain()
    expect((await control('fedramp', 'IA-2')).result?.result).toBe('met')
  })
  it('a ledger that does not answer: unknown, and what people say stands', async () => {
    await say('sox', 'existence', { status: 'in_progress' })
    await stack.restart({ SIGNET_GOVERNANCE_LEDGER_URL: 'http://127.0.0.1:9' })
    expect(await control('sox', 'existence')).toMatchObject({
      status: 'in_progress',
      basis: 'statement',
      result: { result: 'unknown' },
    })
    await stack.restart()
  })
  it('a ledger without TLS is one without TLS', async () => {
    expect((await control('soc2', 'CC6.7')).result).toEqual({
      result: 'not_met',
      detail: 'governance reaches the ledger without TLS',
    })
  })
})

describe('what people say', () => {
  it('is in the ledger, before and after', async () => {
    await say('gdpr', 'art-30', { status: 'in_progress', owner: 'privacy office' })
    const answer = await say('gdpr', 'art-30', {
      status: 'implemented',
      evidence: ['https://wiki.example/records'],
      version: 1,
    })
    expect(answer).toMatchObject({
      status: 200,
      body: { id: 'art-30', status: 'implemented', statement: { owner: 'privacy office', version: 2 } },
    })
    const last = (await stack.events('acme')).at(-1)
    expect(last).toMatchObject({
      event_type: 'governance.outcome',
      action: 'checklists.write',
      resource: 'checklists/gdpr:art-30',
      before: { status: 'in_progress', owner: 'privacy office' },
      after: { status: 'implemented', evidence: ['https://wiki.example/records'] },
    })
  })
  it('moves the score', async () => {
    const before = (await checklist('gdpr')).score
    await say('gdpr', 'art-37-39', { status: 'implemented' })
    const after = (await checklist('gdpr')).score
    expect(after.implemented).toBe(before.implemented + 1)
    expect(after.percent).toBe(Math.floor((100 * after.implemented) / after.total))
  })
  it('holds until its day', async () => {
    await say('gdpr', 'art-7', { status: 'implemented', valid_until: '2020-01-01T00:00:00.000Z' })
    expect(await control('gdpr', 'art-7')).toMatchObject({ status: 'in_progress', statement: { expired: true } })
    await say('gdpr', 'art-7', { valid_until: null })
    expect(await control('gdpr', 'art-7')).toMatchObject({ status: 'implemented', statement: { expired: false } })
  })
  it('of one tenant is nothing to another', async () => {
    await say('gdpr', 'art-6', { status: 'implemented' }, 'globex')
    expect((await control('gdpr', 'art-6')).status).toBe('not_started')
  })
  it('two at once do not overwrite each other unseen', async () => {
    const both = await Promise.all([
      say('gdpr', 'art-12', { note: 'a', version: 0 }),
      say('gdpr', 'art-12', { note: 'b', version: 0 }),
    ])
    expect(both.map(({ status }) => status).toSorted((a, b) => a - b)).toEqual([200, 409])
  })
  it.each([
    {
      what: 'another framework',
      said: { framework: 'cobit', control: 'A', status: 'implemented' },
      want: 'there are eu_ai_act',
    },
    {
      what: 'another control',
      said: { framework: 'gdpr', control: 'art-999', status: 'implemented' },
      want: 'no control of gdpr',
    },
    { what: 'another status', said: { framework: 'gdpr', control: 'art-6', status: 'done' }, want: '/status' },
    { what: 'nothing', said: { framework: 'gdpr', control: 'art-6' }, want: 'the body' },
    {
      what: 'a script as evidence',
      said: { framework: 'gdpr', control: 'art-6', evidence: ['javascript:alert(1)'] },
      want: '/evidence/0',
    },
    {
      what: 'a day that there is not',
      said: { framework: 'gdpr', control: 'art-6', valid_until: '2026-02-30T00:00:00.000Z' },
      want: '/valid_until',
    },
  ])('$what: 400', async ({ said, want }) => {
    const answer = await stack.call('acme', 'PATCH', '/api/compliance', said)
    expect([answer.status, answer.body.detail]).toEqual([400, expect.stringContaining(want)])
  })
})
