// Governance used as its users would, from nothing: people, ten workflows, a scan and what it finds, an event and how it ends, every control of SOC 2
// assessed, an export of thirty days in which every action is found. Prints what it saw; ends with 1 where something is not as it should be.
//   npm run dogfood
import { setTimeout as sleep } from 'node:timers/promises'
import { rolesFor, workCalls } from '#test/governance/work-calls.ts'
import { FIRST_PASSWORD, startGovernanceStack, type Called, type GovernanceStack } from '#test/support/governance.ts'
import { SHIPPED_ROLES } from '#governance/access/shipped-roles.ts'
import { exportRecords, recordedEvents } from './export.ts'

const UNKNOWN = '00000000-0000-7000-8000-000000000000'
const WORKFLOWS = 10
const say = (text: string): void => void process.stdout.write(`${text}\n`)
const problems: string[] = []

function check(what: string, isFine: boolean, detail = ''): void {
  say(`${isFine ? 'ok    ' : 'NOT OK'} ${what}${detail === '' ? '' : `: ${detail}`}`)
  if (!isFine) problems.push(what)
}

say('starting two PostgreSQL servers, a ledger and governance')
const stack = await startGovernanceStack()
try {
  await useIt(stack)
} finally {
  await stack.stop()
}
say(problems.length === 0 ? '\neverything was as it should be' : `\n${problems.length} not as they should be`)
process.exit(problems.length === 0 ? 0 : 1)

async function useIt(one: GovernanceStack): Promise<void> {
  const call = (method: string, url: string, body?: unknown, token?: string): Promise<Called> =>
    one.call('acme', method, url, body, token)
  const roles = new Map<string, string>(
    ((await call('GET', '/api/v1/roles')).body.items as { id: string; name: string }[]).map(({ id, name }) => [
      name,
      id,
    ]),
  )
  const people = new Map<string, { id: string; token: string }>()
  for (const { name } of SHIPPED_ROLES) {
    const email = `${name.toLowerCase()}@acme.example`
    const { id } = (await call('POST', '/api/v1/users', { email, name, password: FIRST_PASSWORD })).body
    await call('POST', '/api/v1/role-bindings', { role_id: roles.get(name), principal_kind: 'user', principal_id: id })
    const session = await one.call(
      'acme',
      'POST',
      '/api/v1/session',
      { tenant: 'acme', email, password: FIRST_PASSWORD },
      null,
    )
    people.set(name, { id, token: session.body.token })
  }
  const tokenOf = (role: string): string => people.get(role)?.token ?? ''

  say('\nworkflows')
  const regulations = ((await call('GET', '/api/v1/regulations')).body.items as { id: string }[]).map(({ id }) => id)
  let completed = 0
  for (let index = 0; index < WORKFLOWS; index++) {
    const regulation = regulations[index % regulations.length]
    const url = '/api/v1/compliance/workflows'
    const { id } = (await call('POST', url, { regulation, name: `Review ${index + 1}` }, tokenOf('ProjectManager')))
      .body
    const task = await call(
      'POST',
      '/api/v1/compliance/tasks',
      { workflow_id: id, title: 'Look at it', assigned_to: people.get('Agent')?.id },
      tokenOf('ProjectManager'),
    )
    await call('POST', `${url}/${id}/transition`, { status: 'in_review' }, tokenOf('ProjectManager'))
    await call('POST', `/api/v1/compliance/tasks/${task.body.id}/status`, { status: 'done' }, tokenOf('Agent'))
    await call('POST', `${url}/${id}/transition`, { status: 'approved' }, tokenOf('ComplianceLead'))
    const last = await call('POST', `${url}/${id}/transition`, { status: 'completed' }, tokenOf('ProjectManager'))
    if (last.body.status === 'completed') completed += 1
  }
  check(
    `${WORKFLOWS} workflows go from draft to completed, with a task and a second person each`,
    completed === WORKFLOWS,
    `${completed}`,
  )

  say('\na scan, and what it finds')
  const scan = (await call('POST', '/api/scans', { rule_ids: ['nist-mfa-001'] }, tokenOf('ComplianceLead'))).body
  check('a scan finds users without a second factor', scan.failed > 0, `${scan.failed} of ${scan.failed + scan.passed}`)
  const [action] = (await call('GET', `/api/remediation/?user_id=${people.get('Viewer')?.id}`)).body.items
  const remediation = `/api/remediation/${action.id}`
  await call('POST', `${remediation}/assign`, { assigned_to: people.get('Agent')?.id }, tokenOf('ProjectManager'))
  await call('POST', `${remediation}/status`, { status: 'in_progress' }, tokenOf('Agent'))
  check(
    'it is not verified while the rule does not hold',
    (await call('POST', `${remediation}/verify`, { verified: true }, tokenOf('Agent'))).status === 409,
  )
  await call('PATCH', `/api/v1/users/${people.get('Viewer')?.id}`, { mfa_enabled: true })
  check(
    'it is verified once it does',
    (await call('POST', `${remediation}/verify`, { verified: true }, tokenOf('Agent'))).body.verified === true,
  )
  await call('POST', `${remediation}/status`, { status: 'resolved' }, tokenOf('Agent'))
  check(
    'and closed',
    (await call('POST', `${remediation}/status`, { status: 'closed' }, tokenOf('ProjectManager'))).body.status ===
      'closed',
  )

  say('\nan event, and how it ends')
  await call('PUT', '/api/compliance/resolution-settings', { mode: 'on' }, tokenOf('ComplianceLead'))
  const session = { tenant: 'acme', email: 'auditor@acme.example', password: FIRST_PASSWORD }
  const doomed = (await one.call('acme', 'POST', '/api/v1/session', session, null)).body.token
  const reported = await call(
    'POST',
    '/api/compliance/event',
    { source: 'data_access', eventType: 'read', details: { actor: 'auditor@acme.example', records: 50_000 } },
    tokenOf('Agent'),
  )
  const violation = reported.body.violations[0]
  check('an unusual access is a violation', violation?.rule === 'unusual_client_data_activity')
  let state = 'open'
  for (let tries = 0; tries < 60 && state !== 'resolved'; tries++) {
    await sleep(500)
    state = (await call('GET', `/api/compliance/violations/${violation.id}`)).body.state
  }
  check(
    'it is resolved: the sessions of who read it have ended',
    state === 'resolved' && (await call('GET', '/api/v1/session', undefined, doomed)).status === 401,
  )
  const again = await one.call('acme', 'POST', '/api/v1/session', session, null)
  people.set('Auditor', { id: people.get('Auditor')?.id ?? '', token: again.body.token })

  say('\nevery control of SOC 2')
  const before =
    (await call('GET', '/api/compliance?framework=soc2')).body.items?.[0] ??
    (await call('GET', '/api/compliance?framework=soc2')).body
  for (const { id, status } of before.controls as { id: string; status: string }[]) {
    if (status === 'implemented') continue
    const said = {
      framework: 'soc2',
      control: id,
      status: 'implemented',
      owner: 'Ines',
      note: 'Looked at by hand',
      evidence: ['https://wiki.example/controls'],
      valid_until: '2027-06-30T00:00:00.000Z',
    }
    await call('PATCH', '/api/compliance', said, tokenOf('ComplianceLead'))
  }
  const after =
    (await call('GET', '/api/compliance?framework=soc2')).body.items?.[0] ??
    (await call('GET', '/api/compliance?framework=soc2')).body
  const left = (after.controls as { id: string; status: string; basis: string }[]).filter(
    ({ basis }) => basis === 'nothing',
  )
  check(
    'no control of SOC 2 is left unassessed',
    left.length === 0,
    `${after.controls.length} controls, score ${before.score.percent} → ${after.score.percent} %`,
  )

  say('\nwho may do what')
  let blocked = 0
  let wrong = 0
  for (const work of workCalls(UNKNOWN)) {
    const allowed = rolesFor(work)
    for (const [role, { token }] of people) {
      const { status } = await call(work.call[0], work.call[1], work.call[2], token)
      if (status === 403) blocked += 1
      // Who is denied too often in a minute has to wait: that is no answer about permissions.
      if (status !== 429 && (status === 403) === allowed.includes(role)) wrong += 1
    }
  }
  check('each role is blocked where it should be, and nowhere else', wrong === 0 && blocked > 50, `${blocked} denials`)

  say('\nan export of thirty days')
  const ours = await recordedEvents(one, 'acme')
  const { eventIds, verified } = await exportRecords(one, 'acme')
  const missing = ours.filter((id) => !eventIds.has(id))
  check(
    'it holds every action',
    missing.length === 0 && ours.length > 500,
    `${ours.length} events of governance, ${eventIds.size} records`,
  )
  check('it proves itself, offline', verified)
}
