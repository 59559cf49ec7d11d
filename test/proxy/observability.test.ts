import { readFileSync } from 'node:fs'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { checkAuditEvent } from '#core/audit/validate.ts'
import { exchange } from '#test/support/http-exchange.ts'
import { startOtlpReceiver } from '#test/support/otlp-receiver.ts'
import { PASS_RULE, refusingRule, startProxyFixture, until, type ProxyFixture } from '#test/support/proxy-fixture.ts'

let collector: Awaited<ReturnType<typeof startOtlpReceiver>>
let fixture: ProxyFixture
beforeAll(async () => {
  collector = await startOtlpReceiver()
  fixture = await startProxyFixture({
    rules: [PASS_RULE, refusingRule('no-x', 'startswith(input.request.path, "/x")')],
    env: { OTEL_EXPORTER_OTLP_ENDPOINT: collector.url, SIGNET_LOG_LEVEL: 'trace', OTEL_BSP_SCHEDULE_DELAY: '100' },
  })
  fixture.upstream.answer = (request, response) => {
    const path = request.url.split('?')[0]
    if (path === '/large') response.writeHead(200, { 'content-type': 'text/plain' }).end(Buffer.alloc(2_000_000, 'x'))
    else if (path === '/reset') response.socket?.destroy()
    else response.writeHead(200, { 'content-type': 'application/json' }).end('{"canary":"PAYLOAD-CANARY"}')
  }
})
afterAll(async () => {
  await fixture.stop()
  await collector.close()
})

const TRACEPARENT = '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01'

describe('spans', () => {
  async function spanOf(target: string, channel: 'external' | 'internal', headers: Record<string, string> = {}) {
    const answer = await exchange(fixture.stack[channel] + target, { headers })
    const parent = fixture.upstream.seen.at(-1)?.headers['traceparent'] as string
    const span = await until(
      'the span',
      () => collector.spans.find(({ spanId }) => parent.includes(spanId)) ?? null,
      15_000,
    )
    return { answer, span, parent }
  }

  test('an outsider’s trace is linked, not continued', async () => {
    const { span, parent } = await spanOf('/linked', 'external', { traceparent: TRACEPARENT })
    expect(span.traceId).not.toBe('0af7651916cd43dd8448eb211c80319c')
    expect(span.parentSpanId).toBeUndefined()
    expect(span.links).toEqual([{ traceId: '0af7651916cd43dd8448eb211c80319c', spanId: 'b7ad6b7169203331' }])
    expect(parent).toBe(`00-${span.traceId}-${span.spanId}-01`)
  })

  test('an insider’s trace is continued', async () => {
    const { span } = await spanOf('/continued', 'internal', { traceparent: TRACEPARENT })
    expect(span).toMatchObject({
      traceId: '0af7651916cd43dd8448eb211c80319c',
      parentSpanId: 'b7ad6b7169203331',
      links: [],
    })
  })

  test.each([
    { target: '/ok', wantStatus: 200, wantError: false },
    { target: '/x', wantStatus: 422, wantError: false },
    { target: '/large', wantStatus: 200, wantError: false },
    { target: '/reset', wantStatus: 502, wantError: true },
  ])('say how it ended: $target', async ({ target, wantStatus, wantError }) => {
    const { answer, span } = await spanOf(`${target}?q=QUERY-CANARY`, 'external')
    expect(answer.status).toBe(wantStatus)
    expect(span).toMatchObject({
      name: 'GET',
      status: wantError ? 2 : 0,
      attributes: {
        'http.request.method': 'GET',
        'http.response.status_code': wantStatus,
        'url.path': target,
        'signet.channel': 'external',
        'signet.mode': 'enforce',
        'signet.tenant': 'acme',
      },
    })
    expect(JSON.stringify(span)).not.toContain('CANARY')
  })
})

describe('metrics', () => {
  test('what alerts watch begins with 0', async () => {
    const text = await fixture.stack.metrics()
    for (const sample of [
      'stamps_missing_total{tenant="acme",reason="aborted"} 0',
      'approval_blocked_total{tenant="acme",rule="no-x"} 0',
      'signet_forged_stamps_total{tenant="acme"} 0',
      'signet_rules_undecidable_total{rule="pass"} 0',
    ]) {
      expect(text.split('\n')).toContain(sample)
    }
  })

  test('are OpenMetrics, with the families of the design', async () => {
    await exchange(`${fixture.stack.external}/ok`)
    await exchange(`${fixture.stack.external}/x`)
    const answer = await fetch(`${fixture.stack.admin}/metrics`)
    expect(answer.headers.get('content-type')).toMatch(/^application\/openmetrics-text/)
    const text = await answer.text()
    expect(text).toMatch(/# EOF\n?$/)
    expect(text).toContain('# TYPE stamps_issued counter')
    expect(text).toMatch(/^stamps_issued_total\{tenant="acme"\} [1-9]/m)
    expect(text).toMatch(/^stamps_rejected_total\{tenant="acme",rule="no-x"\} [1-9]/m)
    expect(text).toContain('# TYPE stamps_missing counter')
    expect(text).toContain('# TYPE approval_blocked counter')
    expect(text).toMatch(/^signet_bundle_info\{revision="[^"]+"\} 1$/m)
    expect(text).toMatch(/^signet_decision_seconds_bucket\{le="\+Inf"\} [1-9]/m)
  })

  test('requests are counted by how they ended', async () => {
    const sample = (outcome: string) =>
      fixture.stack.sample(`signet_requests_total{channel="internal",outcome="${outcome}"}`)
    const before = [await sample('answered'), await sample('refused'), await sample('failed')]
    for (const target of ['/ok', '/x', '/reset']) await exchange(fixture.stack.internal + target)
    await until('the counts', async () => (await sample('failed')) === (before[2] as number) + 1)
    expect([await sample('answered'), await sample('refused')]).toEqual([
      (before[0] as number) + 1,
      (before[1] as number) + 1,
    ])
  })

  test('what clients choose makes no time series', async () => {
    const series = async () =>
      (await fixture.stack.metrics()).split('\n').filter((line) => /^[a-z]/.test(line) && !line.startsWith('nodejs'))
        .length
    for (const method of ['GET', 'POST', 'PROPFIND']) await exchange(`${fixture.stack.external}/warm`, { method })
    const before = await series()
    for (let i = 0; i < 30; i += 1) {
      await exchange(`${fixture.stack.external}/path-${i}?x=${i}`, {
        headers: { 'user-agent': `agent-${i}`, host: `host-${i}` },
      })
    }
    expect(await series()).toBe(before)
  })
})

test('logs hold neither secrets nor payload', async () => {
  await exchange(`${fixture.stack.external}/ok?password=QUERY-CANARY`, {
    headers: { authorization: 'Bearer AUTH-CANARY', cookie: 'session=COOKIE-CANARY' },
  })
  await exchange(`${fixture.stack.external}/reset`, { headers: { authorization: 'Bearer AUTH-CANARY' } })
  const output = fixture.stack.output()
  expect(output.length).toBeGreaterThan(100)
  expect(output).not.toMatch(/CANARY/)
  const secrets = (
    JSON.parse(readFileSync(fixture.stack.keyringFile, 'utf8')) as { keys: { secret?: string }[] }
  ).keys.flatMap(({ secret }) => secret ?? [])
  for (const secret of [...secrets, fixture.ledger.token]) expect(output).not.toContain(secret)
  for (const line of output.trim().split('\n')) expect(JSON.parse(line)).toHaveProperty('message')
})

test('probes: alive and ready; the admin listener serves nothing of the data path', async () => {
  const get = async (target: string) => {
    const answer = await fetch(fixture.stack.admin + target)
    return `${answer.status} ${(await answer.text()).trim()}`
  }
  expect(await get('/livez')).toBe('200 ok')
  expect(await get('/readyz')).toBe('200 ready')
  const before = fixture.upstream.seen.length
  expect(await get('/ok')).toMatch(/^404 /)
  expect((await exchange(`${fixture.stack.external}/metrics`)).body.toString()).toContain('PAYLOAD-CANARY')
  expect(fixture.upstream.seen.length).toBe(before + 1)
})

test('each kind of decision leaves a valid event, and none holds query or payload', async () => {
  await exchange(`${fixture.stack.external}/kinds-passed?q=QUERY-CANARY`)
  await exchange(`${fixture.stack.external}/x/kinds`)
  await exchange(`${fixture.stack.external}/large`)
  await exchange(`${fixture.stack.external}/reset`)
  const kinds = () =>
    new Set(
      fixture.ledger.recorded.map(({ line }) => {
        const { event } = JSON.parse(line) as { event: unknown }
        const { event_type, action, outcome } = checkAuditEvent(event)
        return `${event_type} ${action} ${outcome}`
      }),
    )
  const wanted = [
    'egress.completed stamp allowed',
    'egress.refused refuse denied',
    'egress.decided pass allowed',
    'egress.failed fail error',
  ]
  await until('all kinds', () => wanted.every((kind) => kinds().has(kind)))
  for (const { line } of fixture.ledger.recorded) expect(line).not.toContain('CANARY')
})

test('SIGTERM: requests under way finish, the session is closed clean, the exit is 0', async () => {
  let release = (): void => {}
  const answer = fixture.upstream.answer
  fixture.upstream.answer = (_request, response) => {
    release = () => response.writeHead(200, { 'content-type': 'application/json' }).end('{}')
  }
  const pending = exchange(`${fixture.stack.external}/last`)
  await until('the service to be asked', () => fixture.upstream.seen.at(-1)?.url === '/last')
  const ended = new Promise((resolve) => fixture.stack.child.once('exit', resolve))
  fixture.stack.child.kill('SIGTERM')
  await until('to be draining', async () => {
    const readiness = await fetch(`${fixture.stack.admin}/readyz`).catch(() => null)
    return readiness === null || readiness.status === 503
  })
  release()
  expect((await pending).status).toBe(200)
  expect(await ended).toBe(0)
  expect([...fixture.ledger.sessions.values()].at(-1)?.closed).toMatchObject([{ clean: true }])
  expect(fixture.ledger.recorded.some(({ line }) => line.includes('"/last"'))).toBe(true)
  fixture.upstream.answer = answer
})
