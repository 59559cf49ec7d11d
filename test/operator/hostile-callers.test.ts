import { writeFile } from 'node:fs/promises'
import { connect as connectTcp, type Socket } from 'node:net'
import path from 'node:path'
import { connect as connectTls } from 'node:tls'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { pod } from '#core/injection/injection.fixture.ts'
import { eventually, startOperatorProcess } from '#test/support/operator-process.ts'
import { GOOD, startHostileStack, type Answer, type HostileStack } from './hostile-stack.ts'

/*
 * Who calls the operator's listeners and means harm: pulls without right, reports for others, reviews that no API server sends, connections that
 * say nothing. Refused with a code, counted or audited, and nobody else waits for it.
 */
let stack: HostileStack
let token: string
let mapFile: string
beforeAll(async () => {
  stack = await startHostileStack(['shop', 'bank'])
  mapFile = path.join(stack.folder, 'namespaces.yaml')
  await stack.apply('shop', 'standing', GOOD)
  await stack.says('shop/standing', 'Distributed', 'True NoProxies')
  token = await tokenOf('shop', 'web')
}, 300_000)
afterAll(() => stack?.stop())

const tokenOf = (namespace: string, name: string, audience = 'signet-bundles'): Promise<string> =>
  stack.server.createPodToken({ namespace, serviceAccount: 'default', pod: name, audience })
const pull = (by?: string, headers: Record<string, string> = {}): Promise<Answer> =>
  stack.call('bundles', '/v1/bundles/namespace/shop', { ...(by === undefined ? {} : { token: by }), headers })
const refusals = (labels: Record<string, string>) => stack.metric('signet_bundle_requests_refused_total', labels)

/** Connections to a listener that are left open until the end. */
async function open(to: 'bundles' | 'webhooks', count: number, tls: boolean, say = ''): Promise<Socket[]> {
  const { [to]: address } = await stack.operator.listening
  const port = Number(address.split(':')[1])
  const sockets = Array.from({ length: count }, () => {
    const socket = tls
      ? connectTls({ port, host: '127.0.0.1', rejectUnauthorized: false })
      : connectTcp(port, '127.0.0.1')
    socket.on('error', () => {})
    if (say !== '') socket.write(say)
    return socket
  })
  await new Promise((resolve) => setTimeout(resolve, 1_000))
  return sockets
}

describe('pulls', () => {
  it('without right are refused, counted and audited', async () => {
    const before = (await refusals({ action: 'pull' })) ?? 0
    const cases: { who: string | undefined; want: string }[] = [
      { who: undefined, want: '401 UNAUTHENTICATED' },
      { who: 'garbage', want: '401 UNAUTHENTICATED' },
      { who: 'a.b.c', want: '401 UNAUTHENTICATED' },
      { who: 'x'.repeat(9_000), want: '401 UNAUTHENTICATED' },
      { who: `${token.slice(0, -4)}AAAA`, want: '401 UNAUTHENTICATED' },
      { who: stack.server.token, want: '401 UNAUTHENTICATED' },
      { who: await tokenOf('shop', 'web', 'signet-ledger'), want: '401 UNAUTHENTICATED' },
      { who: await tokenOf('bank', 'clerk'), want: '403 FORBIDDEN' },
    ]
    await stack.survives(async () => {
      for (const { who, want } of cases) {
        const { status, code } = await pull(who)
        expect([who?.slice(0, 20), `${status} ${code}`]).toEqual([who?.slice(0, 20), want])
      }
    })
    expect(await refusals({ action: 'pull' })).toBe(before + cases.length)
    const audited = await eventually('the refusals are audited', () => {
      const found = stack.events.filter(({ event_type: type }) => type === 'policy.bundle.refused')
      return found.length >= 2 ? found : undefined
    })
    expect(audited.map(({ actor }) => actor).sort()).toEqual(['bank/clerk', 'unauthenticated'])
    expect((await pull(token)).status).toBe(200)
  })

  it('with huge headers are refused and counted', async () => {
    await stack.survives(async () => {
      const answer = await pull(token, { 'x-huge': 'x'.repeat(200_000) }).catch(String)
      expect(typeof answer === 'string' ? 431 : answer.status).toBe(431)
      expect((await pull(token, { 'if-none-match': '"x",'.repeat(3_000), prefer: 'wait=0'.repeat(300) })).status).toBe(
        200,
      )
    })
    expect(await refusals({ action: 'connection' })).toBeGreaterThan(0)
  })

  it('of 500 polls at once from one pod hold two places and nobody else’s', async () => {
    const { headers } = await (async () => {
      const { bundles } = await stack.operator.listening
      const { request, Agent } = await import('undici')
      const dispatcher = new Agent({ connect: { rejectUnauthorized: false } })
      const answer = await request(`https://${bundles}/v1/bundles/namespace/shop`, {
        dispatcher,
        headers: { authorization: `Bearer ${token}` },
      })
      await answer.body.dump()
      await dispatcher.close()
      return answer
    })()
    const eager = await tokenOf('shop', 'eager')
    let most = 0
    await stack.survives(async () => {
      const polls = Array.from({ length: 500 }, () =>
        pull(eager, { 'if-none-match': String(headers['etag']), prefer: 'wait=4' }),
      )
      const watching = setInterval(
        () => void stack.metric('signet_bundle_polls_held').then((held) => (most = Math.max(most, held ?? 0))),
        100,
      )
      const statuses = (await Promise.all(polls)).map(({ status }) => status)
      clearInterval(watching)
      expect(new Set(statuses)).toEqual(new Set([304, 429]))
      expect(statuses.filter((status) => status === 429).length).toBeGreaterThan(400)
    })
    expect(most).toBeLessThanOrEqual(3)
    expect(await refusals({ code: 'TOO_MANY_REQUESTS' })).toBeGreaterThan(400)
  }, 120_000)

  it.each([
    { what: 'connections that say nothing', tls: false, say: '' },
    { what: 'TLS that says nothing more', tls: true, say: '' },
    { what: 'a request without end', tls: true, say: 'GET /v1/bundles/namespace/shop HTTP/1.1\r\nx: y' },
  ])('beside 600 of $what are answered', async ({ tls, say }) => {
    let sockets: Socket[] = []
    await stack.survives(async () => {
      sockets = await open('bundles', 600, tls, say)
      expect((await pull(token)).status).toBe(200)
    })
    for (const socket of sockets) socket.destroy()
  })
})

describe('reports', () => {
  const report = (body: string | Buffer, by = token): Promise<Answer> =>
    stack.call('bundles', '/v1/status/namespace/shop', { token: by, body })

  it('for another pod speak for the one that the token names; those of 10 MB, or of no form, are refused', async () => {
    const forged = {
      labels: { id: 'victim', pod: 'victim', uid: '1' },
      bundles: { signet: { active_revision: '1-0123456789abcdef' } },
    }
    await stack.survives(async () => {
      expect((await report(JSON.stringify(forged))).status).toBe(200)
      expect((await report(JSON.stringify(forged), await tokenOf('bank', 'clerk'))).code).toBe('FORBIDDEN')
      const huge = await report(Buffer.alloc(10 << 20, 'x')).catch(() => ({ status: 413 }))
      expect(huge.status).toBe(413)
      for (const body of [
        '',
        '[',
        '7',
        '{"__proto__": {}}',
        '['.repeat(100_000),
        JSON.stringify({ bundles: { a: { message: 7 } } }),
      ])
        expect((await report(body)).status).toBeGreaterThanOrEqual(400)
    })
    const shared = await eventually('what is shared', async () => {
      const answer = await stack.server.request(
        'GET',
        '/api/v1/namespaces/signet-system/configmaps/signet-bundle-status-operator',
      )
      return answer.status === 200 ? answer.json<{ binaryData: Record<string, string> }>() : undefined
    })
    const { gunzipSync } = await import('node:zlib')
    const rows = gunzipSync(Buffer.from(shared.binaryData['proxies.json.gz']!, 'base64')).toString()
    expect(rows).toContain('"pod":"web"')
    expect(rows).not.toContain('victim')
    expect(await refusals({ action: 'report', code: 'FORBIDDEN' })).toBeGreaterThan(0)
    expect(await stack.metric('signet_bundle_status_reports_total', { result: 'refused' })).toBeGreaterThanOrEqual(6)
  })
})

describe('reviews', () => {
  const review = (change: object = {}): object => ({
    apiVersion: 'admission.k8s.io/v1',
    kind: 'AdmissionReview',
    request: {
      uid: 'u',
      resource: { group: 'signet.dev', version: 'v1alpha1', resource: 'compliancerules' },
      operation: 'CREATE',
      namespace: 'shop',
      name: 'r',
      object: { metadata: { name: 'r' }, spec: { description: 'x', severity: 'low', ...GOOD } },
      ...change,
    },
  })
  const send = (body: string | Buffer, to = '/validate-rules'): Promise<Answer> => stack.call('webhooks', to, { body })

  it('that the API server would not send are refused and counted', async () => {
    const malformed = () => stack.metric('signet_webhook_reviews_total', { result: 'malformed' })
    const before = (await malformed()) ?? 0
    const text = JSON.stringify(review())
    const bad: string[] = [
      '',
      'null',
      '[]',
      '{',
      JSON.stringify({ ...review(), kind: 'Pod' }),
      JSON.stringify({ ...review(), apiVersion: 'admission.k8s.io/v1beta1' }),
      JSON.stringify({ ...review(), request: null }),
      JSON.stringify(review({ resource: { group: '', version: 'v1', resource: 'secrets' } })),
      JSON.stringify(review({ namespace: '../kube-system' })),
      JSON.stringify(review({ uid: '' })),
      JSON.stringify(review({ operation: 'PATCH' })),
      text.replace('"uid":"u"', '"uid":"u","uid":"v"'),
      text.replace('"spec":{', '"spec":{"a":{"b":1,"b":2},'),
      text.replace('"spec":{', `"spec":{"deep":${'['.repeat(50_000)}${']'.repeat(50_000)},`),
      `${text}x`,
    ]
    await stack.survives(async () => {
      for (const body of bad) expect([body.slice(0, 40), (await send(body)).status]).toEqual([body.slice(0, 40), 400])
      const huge = await send(Buffer.alloc(10 << 20, ' ')).catch(() => ({ status: 413 }))
      expect(huge.status).toBe(413)
      expect((await stack.call('webhooks', '/validate-rules')).status).toBe(404)
    })
    expect(await malformed()).toBeGreaterThanOrEqual(before + bad.length)
  })

  it('of objects that are none are denied, with a message, and change nothing', async () => {
    const verdict = async (change: object, to?: string) =>
      (
        JSON.parse((await send(JSON.stringify(review(change)), to)).text) as {
          response: { allowed: boolean; status?: { message: string } }
        }
      ).response
    await stack.survives(async () => {
      for (const object of [
        null,
        7,
        [],
        {},
        { metadata: {} },
        { metadata: { name: 'r' }, spec: null },
        { metadata: null, spec: {} },
      ])
        expect(await verdict({ object })).toMatchObject({
          allowed: false,
          status: { message: expect.stringMatching(/no metadata|refused/) as string },
        })
      // Without what it was before it is judged like a new one.
      expect(await verdict({ operation: 'UPDATE' })).toMatchObject({ allowed: true })
      expect(
        await verdict({ operation: 'UPDATE', oldObject: 'x', object: { metadata: { name: 'r' }, spec: {} } }),
      ).toMatchObject({ allowed: false })
      const polluted = JSON.parse(
        '{"metadata": {"name": "r"}, "spec": {"__proto__": {"allowed": true}, "constructor": {"prototype": {"a": 1}}}}',
      ) as object
      expect((await verdict({ object: polluted })).allowed).toBe(false)
      const pods = {
        resource: { group: '', version: 'v1', resource: 'pods' },
        object: { ...pod(), spec: { containers: 'x' } },
      }
      expect(await verdict(pods, '/mutate-pods')).toMatchObject({
        allowed: true,
        warnings: [expect.stringContaining('not injected')],
      })
    })
    expect(({} as { allowed?: unknown }).allowed).toBeUndefined()
  })

  it('of slow rules, applied in a loop in one namespace, hold nobody else’s up', async () => {
    // Each takes a third of a second and more, and together they are asked for all the time.
    const some = (i: number): string => `v${i} if { every x in input.response.headers { some y in [${i}, x]; y == x } }`
    const bodies = Array.from({ length: 700 }, (_, i) => some(i)).join('\n')
    const decision = 'decision := {"evaluated": true, "violations": []}'
    const slow = { description: 'x', severity: 'low', rego: `package slow\n\n${decision}\n\n${bodies}\n` }
    const from = (namespace: string, spec: object, name: string): object =>
      review({ namespace, name, object: { metadata: { name }, spec } })
    const over = new AbortController()
    let checked = 0
    const loops = Array.from({ length: 60 }, async (_, loop) => {
      for (let n = 0; !over.signal.aborted; n += 1)
        if (
          (
            await send(JSON.stringify(from('shop', { ...slow, rego: `${slow.rego}# ${n}\n` }, `slow-${loop}`)))
          ).text.includes('"allowed":true')
        )
          checked += 1
    })
    try {
      await new Promise((resolve) => setTimeout(resolve, 2_000))
      for (const namespace of ['bank', 'signet-system', 'bank']) {
        const startedMs = performance.now()
        const answer = await send(
          JSON.stringify(from(namespace, { description: 'x', severity: 'low', ...GOOD }, 'quick')),
        )
        expect(answer.text).toContain('"allowed":true')
        expect(performance.now() - startedMs).toBeLessThan(3_000)
      }
      // They have their turns, too, however slow the machine is.
      await expect.poll(() => checked, { timeout: 30_000 }).toBeGreaterThan(3)
    } finally {
      over.abort()
      await Promise.all(loops)
    }
    expect(checked).toBeGreaterThan(3)
  }, 60_000)

  it('of bombs, many at once, are bounded work, and the next one is answered', async () => {
    const bomb = {
      metadata: { name: 'bomb' },
      spec: {
        description: 'x',
        severity: 'low',
        rego: `package bomb\n\nx := ${'['.repeat(30_000)}${']'.repeat(30_000)}\n`,
      },
    }
    await stack.survives(
      async () => {
        const answers = await Promise.all(
          Array.from({ length: 60 }, () => send(JSON.stringify(review({ object: bomb })))),
        )
        const codes = answers.map(
          ({ text }) => (JSON.parse(text) as { response: { allowed: boolean; status: { code: number } } }).response,
        )
        expect(codes.every(({ allowed }) => !allowed)).toBe(true)
        expect(new Set(codes.map(({ status }) => status.code))).toEqual(new Set([422, 503]))
        await eventually(
          'a good one is let in',
          async () => (await send(JSON.stringify(review()))).text.includes('"allowed":true'),
          60_000,
        )
      },
      // Longer than the half minute that the control namespace may have to wait for its turn.
      { goodMs: 60_000 },
    )
    expect(await stack.metric('signet_webhook_reviews_total', { result: 'denied' })).toBeGreaterThanOrEqual(60)
  }, 180_000)

  it.each([
    { what: 'connections that say nothing', tls: false, say: '' },
    { what: 'TLS that says nothing more', tls: true, say: '' },
    { what: 'a request without end', tls: true, say: 'POST /validate-rules HTTP/1.1\r\nx: y' },
    {
      what: 'a body without end',
      tls: true,
      say: 'POST /validate-rules HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\ncontent-length: 1000\r\n\r\n{',
    },
  ])('beside 600 of $what are answered', async ({ tls, say }) => {
    let sockets: Socket[] = []
    await stack.survives(async () => {
      sockets = await open('webhooks', 600, tls, say)
      expect((await send(JSON.stringify(review()))).status).toBe(200)
    })
    for (const socket of sockets) socket.destroy()
  })
})

describe('files that follow ConfigMaps', () => {
  it('of garbage leave the former in use, and are told', async () => {
    await writeFile(mapFile, JSON.stringify({ version: 1, namespaces: { shop: { tenant: 'acme' } } }))
    await stack.operator.stop()
    stack.operator = await startOperatorProcess(stack.server, 'operator', { SIGNET_NAMESPACE_MAP: mapFile })
    await stack.operator.listening
    const told = (): number =>
      stack.operator.log.filter((line) => JSON.stringify(line).includes('namespace map changed and cannot be used'))
        .length
    for (const garbage of [
      '{',
      '[]',
      'version: 2',
      'namespaces: {"../x": {}}',
      `a: &a [x]\nb: [${'*a,'.repeat(10_000)}]`,
      'x'.repeat(3_000_000),
    ]) {
      const before = told()
      await writeFile(mapFile, garbage)
      await eventually('it is told', () => told() > before)
    }
    expect(stack.operator.running).toBe(true)
    expect(await stack.operator.readiness()).toBe('ready')
  }, 120_000)
})
