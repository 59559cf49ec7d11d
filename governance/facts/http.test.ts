import { createServer, type RequestListener, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { afterEach, describe, expect, it } from 'vitest'
import type { KubernetesApi } from '#runtime/kubernetes/api.ts'
import type { Pool } from '#runtime/postgres/transaction.ts'
import { gatherFacts } from './registry.ts'
import { readJson } from './http.ts'

const open: Server[] = []
const asked: string[] = []

/** Its origin. */
async function serving(listener: RequestListener): Promise<string> {
  const server = createServer((request, response) => {
    asked.push(request.url ?? '')
    listener(request, response)
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  open.push(server)
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`
}
afterEach(async () => {
  asked.length = 0
  for (const server of open.splice(0)) {
    server.closeAllConnections()
    await new Promise((resolve) => server.close(resolve))
  }
})
const JSON_TYPE = { 'content-type': 'application/json; charset=utf-8' }

describe('a URL', () => {
  it.each([
    { what: 'JSON', status: 200, type: 'application/json', body: '{"a":"é"}', want: { status: 200, body: { a: 'é' } } },
    {
      what: 'JSON of a kind',
      status: 200,
      type: 'application/health+json',
      body: '[1]',
      want: { status: 200, body: [1] },
    },
    {
      what: 'a failure that says why',
      status: 503,
      type: 'application/json',
      body: '{"up":false}',
      want: { status: 503, body: { up: false } },
    },
    { what: 'something else', status: 200, type: 'text/html', body: '{"a":1}', want: { status: 200 } },
    {
      what: 'what it calls JSON',
      status: 200,
      type: 'application/json',
      body: '{"a":',
      want: { status: 200, is_json: false },
    },
    { what: 'nothing', status: 200, type: 'application/json', body: '', want: { status: 200, is_json: false } },
  ])('that answers $what', async ({ status, type, body, want }) => {
    const origin = await serving((_request, response) => response.writeHead(status, { 'content-type': type }).end(body))
    expect(await readJson(`${origin}/health`)).toEqual({ answers: true, ...want })
  })
  it('that redirects is not followed', async () => {
    const origin = await serving((request, response) =>
      request.url === '/health'
        ? response.writeHead(302, { location: '/secret' }).end()
        : response.writeHead(200, JSON_TYPE).end('{"secret":1}'),
    )
    expect(await readJson(`${origin}/health`)).toEqual({ answers: true, status: 302 })
    expect(asked).toEqual(['/health'])
  })
  it('that answers as much as may be, and a byte more', async () => {
    const exact = `"${'x'.repeat(64 * 1024 - 2)}"`
    let body = exact
    const origin = await serving((_request, response) => response.writeHead(200, JSON_TYPE).end(body))
    expect(await readJson(origin)).toMatchObject({ status: 200, body: exact.slice(1, -1) })
    body = `${exact} `
    expect(await readJson(origin)).toEqual({ answers: true, status: 200, too_large: true })
  })
  it('that never ends is let go of once it is too large', async () => {
    let isGone = false
    const origin = await serving((_request, response) => {
      response.writeHead(200, JSON_TYPE)
      const pour = (): void => void (response.write('x'.repeat(16 * 1024)) ? setImmediate(pour) : undefined)
      response.on('drain', pour)
      response.on('close', () => (isGone = true))
      pour()
    })
    expect(await readJson(origin)).toEqual({ answers: true, status: 200, too_large: true })
    await expect.poll(() => isGone, { timeout: 10_000 }).toBe(true)
  })
  it.each([
    { what: 'hangs', listener: (() => undefined) as RequestListener },
    {
      what: 'hangs in the middle',
      listener: ((_request, response) => void response.writeHead(200, JSON_TYPE).write('{"a":')) as RequestListener,
    },
    {
      what: 'sends a byte now and then',
      listener: ((_request, response) => {
        response.writeHead(200, JSON_TYPE)
        const dripping = setInterval(() => response.write(' '), 50)
        response.on('close', () => clearInterval(dripping))
      }) as RequestListener,
    },
    { what: 'breaks off', listener: ((request) => request.socket.destroy()) as RequestListener },
  ])('that $what does not answer', async ({ listener }) => {
    const origin = await serving(listener)
    expect(await readJson(origin, 500)).toEqual({ answers: false })
  })
})

describe('what a scan may look at', () => {
  const nothing = { pool: {} as Pool, nowMs: Date.now, ledger: { url: '', read: () => Promise.reject(new Error()) } }

  it('is what the platform named, and one that hangs takes no other with it', async () => {
    const good = await serving((_request, response) => response.writeHead(200, JSON_TYPE).end('{"ok":true}'))
    const hanging = await serving(() => undefined)
    const other = await serving((_request, response) => response.writeHead(200, JSON_TYPE).end('{}'))
    const { port } = new URL(hanging)
    const deps = {
      ...nothing,
      endpoints: new Map([['silent', { host: '127.0.0.1', port: Number(port) }]]),
      urls: new Map([
        ['good', good],
        ['silent', hanging],
      ]),
      kubernetes: null,
    }
    const wanted = new Set(['http', 'tls', 'kubernetes', other, 'http.other', 'constructor'])
    expect(await gatherFacts(deps, 'acme', wanted)).toEqual({
      facts: {
        http: { good: { answers: true, status: 200, body: { ok: true } }, silent: { answers: false } },
        tls: { silent: { answers: false } },
      },
      users: [],
      problems: { kubernetes: 'the platform has named no namespace that is this tenant’s' },
    })
    expect(asked).toEqual(['/', '/'])
  })
  it('of Kubernetes is the tenant’s own namespaces', async () => {
    const read: string[] = []
    const api = {
      getNamespace: async (name: string) => {
        read.push(name)
        return {}
      },
      listObjects: async () => [],
    } as unknown as KubernetesApi
    const kubernetes = { api, namespaces: new Map([['acme', ['shop', 'web']]]) }
    const deps = { ...nothing, endpoints: new Map(), urls: new Map(), kubernetes }
    const acme = await gatherFacts(deps, 'acme', new Set(['kubernetes']))
    expect(acme).toMatchObject({ facts: { kubernetes: { namespaces: { total: 2 } } }, problems: {} })
    const globex = await gatherFacts(deps, 'globex', new Set(['kubernetes']))
    expect(globex.facts).toEqual({})
    expect(read).toEqual(['shop', 'web'])
  })
})
