import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { exchange, type HttpAnswer } from '#test/support/http-exchange.ts'
import {
  digestOf,
  startProxyFixture,
  subjectOf,
  until,
  verifyAnswer,
  type ProxyFixture,
} from '#test/support/proxy-fixture.ts'

/** The shipped pack, as a newcomer gets it. */
let fixture: ProxyFixture
beforeAll(async () => {
  fixture = await startProxyFixture({
    rules: 'standard',
    env: { SIGNET_TRUSTED_INGRESS: '127.0.0.1' },
    policyData: {
      version: 1,
      routes: [
        { template: '/eu/{id}', regions: ['eu'] },
        { template: '/pci/**', regulations: ['PCI-DSS'] },
        { template: '/secret', classification: 'restricted' },
      ],
      blocks: [
        { id: 'b-agent', kind: 'agent', value: 'rogue', expires_at: '2099-01-01T00:00:00Z' },
        { id: 'b-route', kind: 'route', value: '/held/{id}', method: 'POST', expires_at: '2099-01-01T00:00:00Z' },
        { id: 'b-over', kind: 'agent', value: 'forgiven', expires_at: '2020-01-01T00:00:00Z' },
      ],
      approvals: [
        {
          id: 'by-version',
          resource: '/reports/{id}',
          version: '2026-10',
          channel: 'external',
          approved_by: 'c@example.com',
          expires_at: '2099-01-01T00:00:00Z',
        },
        {
          id: 'by-digest',
          resource: '/digest',
          digest: digestOf(PERSON),
          channel: 'external',
          approved_by: 'c@example.com',
          expires_at: '2099-01-01T00:00:00Z',
        },
        {
          id: 'expired',
          resource: '/expired',
          version: '1',
          channel: 'external',
          approved_by: 'c@example.com',
          expires_at: '2020-01-01T00:00:00Z',
        },
        {
          id: 'for-internal',
          resource: '/elsewhere',
          version: '1',
          channel: 'internal',
          approved_by: 'c@example.com',
          expires_at: '2099-01-01T00:00:00Z',
        },
      ],
    },
  })
})
afterAll(() => fixture.stop())

const PERSON = JSON.stringify({ name: 'Alice Example', email: 'alice.canary@example.net', note: 'CANARY' })
const CARD = JSON.stringify({ pan: '4111 1111 1111 1111' })

function answerWith(body: string, headers: Record<string, string> = {}, status = 200): void {
  fixture.upstream.answer = (_request, response) =>
    response
      .writeHead(status, {
        'content-type': 'application/json',
        'x-upstream': 'CANARY',
        'set-cookie': 'CANARY=1',
        ...headers,
      })
      .end(body)
}

function get(target: string, headers: Record<string, string> = {}, channel: 'external' | 'internal' = 'external') {
  return exchange(fixture.stack[channel] + target, { headers })
}

type Problem = {
  type: string
  violations: { rule: string }[]
  request_id: string
  trace_id: string
  request_effect: string
  upstream_status: number
}
function problemOf(answer: HttpAnswer): Problem {
  expect(answer.status).toBe(422)
  return JSON.parse(answer.body.toString()) as Problem
}

describe('the refusal', () => {
  test('is a problem document with all that one needs, and nothing of what was refused', async () => {
    answerWith(PERSON, { trailer: 'X-T' })
    const answer = await get('/customers/7?q=1', { te: 'trailers' })
    expect(answer.headers).toMatchObject({ 'content-type': 'application/problem+json', 'cache-control': 'no-store' })
    const problem = problemOf(answer)
    expect(problem).toEqual({
      type: 'https://signet.dev/problems/policy-denied',
      title: 'Policy does not let this response out',
      status: 422,
      code: 'POLICY_DENIED',
      detail: expect.stringContaining('external-approval') as unknown,
      instance: '/customers/7',
      trace_id: expect.stringMatching(/^[0-9a-f]{32}$/) as unknown,
      request_id: expect.stringMatching(/^[0-9a-f-]{36}$/) as unknown,
      violations: [
        {
          rule: 'external-approval',
          severity: 'high',
          message: expect.any(String) as unknown,
          remediation: { hint: expect.any(String) as unknown },
          frameworks: ['GDPR', 'SOX'],
        },
      ],
      upstream_status: 200,
      request_effect: 'none',
    })
    const wire = answer.rawHeaders.join('\n') + answer.body.toString() + JSON.stringify(answer.trailers)
    expect(wire).not.toMatch(/CANARY|alice|Alice|x-upstream|set-cookie/i)
    expect(answer.headers['compliance-stamp'] ?? answer.headers['link'] ?? answer.headers['etag']).toBeUndefined()
    const [event] = await fixture.events(problem.request_id)
    expect(event).toMatchObject({
      event_type: 'egress.refused',
      outcome: 'denied',
      trace_id: problem.trace_id,
      stamp_hash: null,
      resource: '/customers/7',
      context: { status: 422, upstream_status: 200, violations: ['external-approval'], error: 'POLICY_DENIED' },
    })
    expect(JSON.stringify(event)).not.toMatch(/CANARY|alice/i)
  })

  test.each([
    { accept: 'text/html,application/xhtml+xml,*/*;q=0.8', wantHtml: true },
    { accept: 'application/json', wantHtml: false },
    { accept: '*/*', wantHtml: false },
    { accept: 'text/html;q=0.1, application/json', wantHtml: false },
  ])('Accept: $accept', async ({ accept, wantHtml }) => {
    answerWith(PERSON)
    const answer = await get('/customers/7', { accept })
    expect(answer.status).toBe(422)
    expect(answer.headers['content-type']).toBe(wantHtml ? 'text/html; charset=utf-8' : 'application/problem+json')
    expect(answer.body.toString()).not.toMatch(/CANARY|alice/i)
    if (wantHtml) expect(answer.body.toString()).toMatch(/external-approval[\s\S]*request id/)
  })

  test('of HEAD has no body', async () => {
    answerWith('', { 'signet-data-classification': 'restricted' })
    const answer = await exchange(`${fixture.stack.external}/x`, { method: 'HEAD' })
    expect(answer.status).toBe(422)
    expect(answer.body.length).toBe(0)
  })

  test.each([
    { method: 'GET', status: 200, want: 'none' },
    { method: 'POST', status: 201, want: 'completed' },
    { method: 'DELETE', status: 200, want: 'completed' },
    { method: 'POST', status: 500, want: 'unknown' },
    { method: 'POST', status: 404, want: 'unknown' },
  ])('says what became of the request: $method, $status', async ({ method, status, want }) => {
    answerWith(PERSON, {}, status)
    const answer = await exchange(`${fixture.stack.external}/customers`, { method })
    expect(problemOf(answer)).toMatchObject({ request_effect: want, upstream_status: status })
  })

  test('a name with markup in the path does not get into the page', async () => {
    answerWith(PERSON)
    const answer = await get('/%3Cscript%3E<b>', { accept: 'text/html' })
    expect(answer.body.toString()).not.toMatch(/<script|<b>/)
  })
})

describe('the standard pack', () => {
  test('lets a newcomer’s plain JSON out, public and approved by rule', async () => {
    answerWith('{"status":"ok","items":[1,2,3]}')
    const { stamp } = verifyAnswer(
      fixture.stack,
      await get('/anything'),
      subjectOf(fixture.stack, { target: '/anything', mediaType: 'application/json' }),
    )
    expect(stamp).toMatchObject({
      data_classification: 'public',
      approval_status: 'approved',
      regulatory_compliance: ['NONE'],
    })
  })

  test.each([
    { name: 'personal data', target: '/c', body: PERSON, want: ['external-approval'] },
    { name: 'card numbers', target: '/c', body: CARD, want: ['external-approval', 'payment-card-egress'] },
    { name: 'a classified route', target: '/secret', body: '{}', want: ['external-approval'] },
    {
      name: 'a classification that the application declares',
      target: '/c',
      body: '{}',
      headers: { 'signet-data-classification': 'confidential' },
      want: ['external-approval'],
    },
    {
      name: 'a classification that does not exist',
      target: '/c',
      body: '{}',
      headers: { 'signet-data-classification': 'secret' },
      want: ['classification', 'external-approval'],
    },
    {
      name: 'an approval that has expired',
      target: '/expired',
      body: PERSON,
      headers: { 'signet-artifact-version': '1' },
      want: ['external-approval'],
    },
    {
      name: 'an approval for another channel',
      target: '/elsewhere',
      body: PERSON,
      headers: { 'signet-artifact-version': '1' },
      want: ['external-approval'],
    },
    {
      name: 'an approval for another version',
      target: '/reports/7',
      body: PERSON,
      headers: { 'signet-artifact-version': '2026-11' },
      want: ['external-approval'],
    },
    { name: 'an approval without a version', target: '/reports/7', body: PERSON, want: ['external-approval'] },
    { name: 'an approval of other bytes', target: '/digest', body: `${PERSON} `, want: ['external-approval'] },
    {
      name: 'a route template reached by another spelling',
      target: '/x/%2e%2e/%73ecret;a=1',
      body: '{}',
      want: ['external-approval'],
    },
    { name: 'an unknown region', target: '/eu/1', body: '{}', want: ['residency'] },
    { name: 'a wrong region', target: '/eu/1', body: '{}', ask: { 'signet-caller-region': 'us' }, want: ['residency'] },
  ])('refuses externally: $name', async ({ target, body, headers, ask, want }) => {
    answerWith(body, headers)
    const rejected = await fixture.stack.sample(`stamps_rejected_total{tenant="acme",rule="${want[0]}"}`)
    const answer = await get(target, ask)
    expect(
      problemOf(answer)
        .violations.map(({ rule }) => rule)
        .sort(),
    ).toEqual(want)
    expect(await fixture.stack.sample(`stamps_rejected_total{tenant="acme",rule="${want[0]}"}`)).toBe(rejected + 1)
  })

  test('counts what waits for an approval', async () => {
    const before = await fixture.stack.sample('approval_blocked_total{tenant="acme",rule="external-approval"}')
    answerWith(PERSON)
    await get('/c')
    expect(await fixture.stack.sample('approval_blocked_total{tenant="acme",rule="external-approval"}')).toBe(
      before + 1,
    )
  })

  test.each([
    { name: 'by version', target: '/reports/7', headers: { 'signet-artifact-version': '2026-10' } },
    { name: 'by digest', target: '/digest', headers: {} },
  ])('an approval lets out $name', async ({ target, headers }) => {
    answerWith(PERSON, headers)
    const { stamp } = verifyAnswer(
      fixture.stack,
      await get(target),
      subjectOf(fixture.stack, { target, mediaType: 'application/json' }),
    )
    expect(stamp).toMatchObject({
      approval_status: 'approved',
      data_classification: 'confidential',
      regulatory_compliance: ['GDPR'],
    })
  })

  test('an approval does not lift the card rule, a declared route does', async () => {
    answerWith(CARD, { 'signet-artifact-version': '2026-10' })
    expect(problemOf(await get('/reports/7')).violations.map(({ rule }) => rule)).toEqual(['payment-card-egress'])
    expect(problemOf(await get('/pci/1')).violations.map(({ rule }) => rule)).toEqual(['external-approval'])
  })

  test('internally, personal data passes and its stamp says so', async () => {
    answerWith(PERSON)
    const answer = await get('/c', {}, 'internal')
    const { stamp } = verifyAnswer(
      fixture.stack,
      answer,
      subjectOf(fixture.stack, { target: '/c', mediaType: 'application/json', channel: 'internal' }),
    )
    expect(stamp).toMatchObject({
      approval_status: 'pending-approval',
      data_classification: 'confidential',
      regulatory_compliance: ['GDPR'],
    })
  })

  test('the right region passes', async () => {
    answerWith('{}')
    expect((await get('/eu/1', { 'signet-caller-region': 'EU' })).status).toBe(200)
  })

  test('CSV is looked into, too', async () => {
    answerWith('name,email\nAlice,alice.canary@example.net\n', { 'content-type': 'text/csv' })
    expect(problemOf(await get('/c.csv')).violations.map(({ rule }) => rule)).toEqual(['external-approval'])
  })

  test.each([
    { name: 'an agent', target: '/orders', headers: { 'signet-caller-subject': 'rogue' }, block: 'b-agent' },
    { name: 'a route, however it is spelled', target: '/%68eld//7', headers: {}, block: 'b-route' },
  ])('$name that is contained is refused before the service is asked, with its body read', async (given) => {
    answerWith('{}')
    const asked = fixture.upstream.seen.length
    const refused = await exchange(fixture.stack.external + given.target, {
      method: 'POST',
      headers: given.headers,
      body: Buffer.alloc(300_000, 'x'),
    })
    const problem = problemOf(refused)
    expect(problem).toMatchObject({ request_effect: 'none', upstream_status: null })
    expect(problem.violations.map(({ rule }) => rule)).toEqual(['containment'])
    expect(refused.body.toString()).toContain(given.block)
    expect(refused.body.toString()).not.toContain('rogue')
    expect(fixture.upstream.seen.length).toBe(asked)
  })

  test('what is not contained, or not any more, passes, and answers are their caller’s own', async () => {
    answerWith('{}', { 'cache-control': 'public, max-age=60' })
    const answer = await get('/held/7', { 'signet-caller-subject': 'forgiven' })
    expect(answer.status).toBe(200)
    expect(answer.headers['cache-control']).toMatch(/private/)
  })

  test('an approval that is withdrawn refuses again', async () => {
    answerWith(PERSON, { 'signet-artifact-version': '2026-10' })
    expect((await get('/reports/7')).status).toBe(200)
    await fixture.stack.setPolicyData({ version: 1 })
    await until('the approval to be gone', async () => (await get('/reports/7')).status === 422)
  })

  test('a rule in shadow holds nothing back', async () => {
    const data = { version: 1, modes: { rules: { containment: { mode: 'shadow' } } } }
    const blocks = [{ id: 'b', kind: 'agent', value: 'rogue', expires_at: '2099-01-01T00:00:00Z' }]
    answerWith('{}')
    const seen = 'signet_shadow_violations_total{tenant="acme",rule="containment"}'
    await fixture.stack.setPolicyData({ ...data, blocks })
    await until('it to be seen only', async () => {
      const { status } = await get('/x', { 'signet-caller-subject': 'rogue' })
      return status === 200 && (await fixture.stack.sample(seen)) > 0
    })
  })
})
