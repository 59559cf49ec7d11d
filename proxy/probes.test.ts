import http from 'node:http'
import http2 from 'node:http2'
import https from 'node:https'
import net, { type AddressInfo, type Server } from 'node:net'
import Fastify, { type FastifyInstance } from 'fastify'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { AppProbe } from '#core/injection/app-probe.ts'
import { issuePair } from '#runtime/tls/certificate.fixture.ts'
import { appProbeRoutes, parseAppProbes } from './probes.ts'

const servers: Server[] = []
const seen: { url: string; headers: http.IncomingHttpHeaders }[] = []
let httpPort = 0
let httpsPort = 0
let grpcPort = 0
let deafPort = 0

async function open(server: Server): Promise<number> {
  servers.push(server)
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  return (server.address() as AddressInfo).port
}

const answer = (request: http.IncomingMessage, response: http.ServerResponse): void => {
  seen.push({ url: request.url ?? '', headers: request.headers })
  const [, status = '200', rest = ''] = /^\/(\d{3})(?:\/(.*))?/.exec(request.url ?? '') ?? []
  if (request.url === '/hang') return
  if (request.url === '/half') {
    response.writeHead(200, { 'content-length': 100 }).write('x')
    setTimeout(() => response.destroy(), 20)
    return
  }
  if (request.url === '/endless') {
    const write = (): void => {
      if (response.write('x'.repeat(65_536))) setImmediate(write)
      else response.once('drain', write)
    }
    write()
    return
  }
  response.writeHead(Number(status), rest === '' ? {} : { location: decodeURIComponent(rest) })
  response.end('secret of the application')
}

beforeAll(async () => {
  httpPort = await open(http.createServer(answer))
  httpsPort = await open(https.createServer(issuePair('app'), answer))
  const grpc = http2.createServer()
  grpc.on('stream', (stream, headers) => {
    const chunks: Buffer[] = []
    stream.on('error', () => {})
    stream.on('data', (chunk: Buffer) => chunks.push(chunk))
    stream.on('end', () => {
      const service = Buffer.concat(chunks).subarray(7).toString()
      if (headers[':path'] !== '/grpc.health.v1.Health/Check' || service === 'unknown') {
        stream.respond({ ':status': 200, 'content-type': 'application/grpc', 'grpc-status': '5' }, { endStream: true })
        return
      }
      stream.respond({ ':status': 200, 'content-type': 'application/grpc' }, { waitForTrailers: true })
      stream.on('wantTrailers', () => stream.sendTrailers({ 'grpc-status': '0' }))
      stream.end(Buffer.from([0, 0, 0, 0, 2, 8, service === 'down' ? 2 : 1]))
    })
  })
  grpcPort = await open(grpc)
  deafPort = await open(net.createServer((socket) => socket.on('error', () => {})))
})
afterAll(() => {
  for (const server of servers) {
    if (server instanceof http.Server || server instanceof https.Server) server.closeAllConnections()
    server.close()
  }
})

function appWith(probes: Record<string, AppProbe>): FastifyInstance {
  const app = Fastify()
  appProbeRoutes(app, probes)
  return app
}

async function probe(probe: AppProbe, kind = 'livenessProbe'): Promise<{ status: number; body: string }> {
  const answer = await appWith({ [`app/${kind}`]: probe }).inject({
    url: `/app-probes/app/${kind}`,
    headers: { host: '10.0.0.7:15094', 'user-agent': 'kube-probe/1.37' },
  })
  return { status: answer.statusCode, body: answer.body }
}

const get = (path: string, more: object = {}): AppProbe => ({
  httpGet: { port: httpPort, path, scheme: 'HTTP', httpHeaders: [], ...more },
  timeoutSeconds: 1,
})

describe('httpGet', () => {
  it.each([
    { path: '/200', want: 200 },
    { path: '/399', want: 200 },
    { path: '/400', want: 503 },
    { path: '/503', want: 503 },
    { path: 'no-slash', want: 200 },
    { path: '/with space/ö?a=b c', want: 200 },
    { path: '/302/%2F200', want: 200 },
    { path: '/302/%2F500', want: 503 },
    { path: '/302/http%3A%2F%2Felsewhere%2F500', want: 200 },
    { path: '/302/%2F302%2F%252F503', want: 503 },
    { path: '/half', want: 503 },
    { path: '/endless', want: 200 },
  ])('$path gives $want', async ({ path, want }) => {
    const { status, body } = await probe(get(path))
    expect(status).toBe(want)
    expect(body).not.toContain('secret')
  })

  it('follows a redirect to the same host only, and not for ever', async () => {
    const there = `http://10.0.0.7:${httpPort}/500`
    expect((await probe(get(`/302/${encodeURIComponent(there)}`))).status).toBe(503)
    const server = http.createServer((_, response) => response.writeHead(302, { location: '/again' }).end())
    const port = await open(server)
    expect(await probe(get('/', { port }))).toMatchObject({ status: 503, body: 'stopped after 10 redirects\n' })
  })

  it('asks as the kubelet would have', async () => {
    await probe(get('/a?b=c', { httpHeaders: [{ name: 'X-One', value: '1' }] }))
    expect(seen.at(-1)).toMatchObject({
      url: '/a?b=c',
      headers: { host: `10.0.0.7:${httpPort}`, 'user-agent': 'kube-probe/1.37', accept: '*/*', 'x-one': '1' },
    })
    await probe(
      get('/', {
        httpHeaders: [
          { name: 'Host', value: 'own.example' },
          { name: 'User-Agent', value: '' },
          { name: 'accept', value: 'text/plain' },
        ],
      }),
    )
    expect(seen.at(-1)?.headers).toMatchObject({ host: 'own.example', accept: 'text/plain' })
    expect(seen.at(-1)?.headers['user-agent']).toBeUndefined()
  })

  it('takes any certificate', async () => {
    expect((await probe(get('/200', { port: httpsPort, scheme: 'HTTPS' }))).status).toBe(200)
    expect((await probe(get('/500', { port: httpsPort, scheme: 'HTTPS' }))).status).toBe(503)
  })

  it('gives up in time', async () => {
    const began = performance.now()
    expect(await probe(get('/hang'))).toEqual({ status: 503, body: 'no answer within 1 s\n' })
    expect(performance.now() - began).toBeLessThan(3_000)
  })
})

describe('tcpSocket and grpc', () => {
  it.each([
    { what: 'tcp', make: (): AppProbe => ({ tcpSocket: { port: deafPort }, timeoutSeconds: 1 }), want: 200 },
    { what: 'tcp, closed', make: (): AppProbe => ({ tcpSocket: { port: 1 }, timeoutSeconds: 1 }), want: 503 },
    { what: 'grpc', make: (): AppProbe => ({ grpc: { port: grpcPort, service: '' }, timeoutSeconds: 1 }), want: 200 },
    {
      what: 'grpc, a service',
      make: (): AppProbe => ({ grpc: { port: grpcPort, service: 's'.repeat(120) }, timeoutSeconds: 1 }),
      want: 200,
    },
    {
      what: 'grpc, not serving',
      make: (): AppProbe => ({ grpc: { port: grpcPort, service: 'down' }, timeoutSeconds: 1 }),
      want: 503,
    },
    {
      what: 'grpc, unknown',
      make: (): AppProbe => ({ grpc: { port: grpcPort, service: 'unknown' }, timeoutSeconds: 1 }),
      want: 503,
    },
    {
      what: 'grpc, not gRPC',
      make: (): AppProbe => ({ grpc: { port: httpPort, service: '' }, timeoutSeconds: 1 }),
      want: 503,
    },
    {
      what: 'grpc, silent',
      make: (): AppProbe => ({ grpc: { port: deafPort, service: '' }, timeoutSeconds: 1 }),
      want: 503,
    },
    { what: 'grpc, closed', make: (): AppProbe => ({ grpc: { port: 1, service: '' }, timeoutSeconds: 1 }), want: 503 },
  ])('$what gives $want', async ({ make, want }) => expect((await probe(make())).status).toBe(want))
})

describe('what can be asked for', () => {
  it.each([
    '/app-probes/app/readinessProbe',
    '/app-probes/other/livenessProbe',
    '/app-probes/app',
    '/app-probes/__proto__/x',
    '/app-probes/app/livenessProbe/x',
  ])('%s is not configured: 404', async (url) => {
    const app = appWith({ 'app/livenessProbe': get('/200') })
    expect((await app.inject({ url })).statusCode).toBe(404)
  })

  it('asks the application once for those who ask at the same time', async () => {
    const app = appWith({ 'app/livenessProbe': get('/hang') })
    const before = seen.length
    await Promise.all([1, 2, 3, 4].map(() => app.inject({ url: '/app-probes/app/livenessProbe' })))
    expect(seen.length - before).toBe(1)
    await app.inject({ url: '/app-probes/app/livenessProbe' })
    expect(seen.length - before).toBe(2)
  })

  it('hooks that hang, and whoever calls them again and again, keep no liveness from being asked', async () => {
    const app = appWith({ 'app/postStart': get('/hang'), 'app/livenessProbe': get('/200') })
    const address = await app.listen({ port: 0, host: '127.0.0.1' })
    const before = seen.length
    const flood = Array.from({ length: 100 }, () => fetch(`${address}/app-probes/app/postStart`).catch(() => null))
    await expect.poll(() => seen.length - before).toBeGreaterThan(0)
    expect((await fetch(`${address}/app-probes/app/livenessProbe`)).status).toBe(200)
    await Promise.all(flood)
    await app.close()
  })

  it('a hook that reaches nobody has no answer, as the kubelet expects it', async () => {
    const app = appWith({ 'app/preStop': get('/x', { port: 1 }), 'app/postStart': get('/500') })
    const address = await app.listen({ port: 0, host: '127.0.0.1' })
    await expect(fetch(`${address}/app-probes/app/preStop`)).rejects.toThrow()
    expect((await fetch(`${address}/app-probes/app/postStart`)).status).toBe(200)
    await app.close()
  })
})

describe('parseAppProbes', () => {
  it.each([
    { text: 'no', want: 'is not JSON' },
    { text: '{"app/livenessProbe":{"exec":{}}}', want: 'SIGNET_PROBES: /app~1livenessProbe' },
    { text: '{"../x":{"tcpSocket":{"port":1},"timeoutSeconds":1}}', want: 'SIGNET_PROBES' },
    { text: '{"app/livenessProbe":{"tcpSocket":{"port":1,"host":"evil"},"timeoutSeconds":1}}', want: 'SIGNET_PROBES' },
    { text: '{"app/livenessProbe":{"tcpSocket":{"port":70000},"timeoutSeconds":1}}', want: 'SIGNET_PROBES' },
  ])('refuses $text', ({ text, want }) => expect(() => parseAppProbes(text)).toThrow(want))

  it('reads what injection writes', () => {
    expect(parseAppProbes(undefined)).toEqual({})
    expect(parseAppProbes('{"app/livenessProbe":{"tcpSocket":{"port":1},"timeoutSeconds":1}}')).toEqual({
      'app/livenessProbe': { tcpSocket: { port: 1 }, timeoutSeconds: 1 },
    })
  })
})
