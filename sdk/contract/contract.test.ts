import fastify from 'fastify'
import { mkdir, writeFile } from 'node:fs/promises'
import path from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { KEYRING } from '#core/stamp/stamp.fixture.ts'
import { attachStamp, stampSigner, type StampContext } from '../stamp/attach-stamp.ts'
import { exportStamped } from '../stamp/export-file.ts'
import { stampedObject, startStampedServer, TRUST, type StampedServer } from '../stamp/stamped-server.fixture.ts'
import { requireStampedExports } from './exporters.ts'
import { listRoutes, requireStampedRoutes, type RoutesContract } from './routes.ts'

describe('routes', () => {
  let server: StampedServer
  beforeAll(async () => {
    server = await startStampedServer()
    server.answer = (request, response) => {
      const status = request.url === '/none' ? 404 : 200
      const body = request.url === '/bare' ? '{}' : stampedObject(request, '{}', { status })
      response.writeHead(status, { 'content-type': 'application/json' }).end(body)
    }
  })
  afterAll(() => server.close())

  async function routesOfAnApp(): Promise<readonly string[]> {
    const app = fastify()
    const routes = listRoutes(app)
    const handler = async () => ({})
    app.get('/reports/:id', handler)
    app.route({ method: ['POST', 'PUT'], url: '/reports', handler })
    await app.register(async (inner) => void inner.get('/health', handler), { prefix: '/internal' })
    await app.ready()
    await app.close()
    return routes
  }
  const SAMPLES: RoutesContract['samples'] = {
    'GET /reports/:id': [{ path: '/reports/7?x=1' }, { path: '/none', status: 404 }],
    'POST /reports': [{ path: '/reports', body: '{}', status: 200 }],
    'PUT /reports': [{ path: '/reports', body: '{}' }],
    'GET /internal/health': { exempt: 'asked by the kubelet only' },
  }
  const require_ = async (change: Partial<RoutesContract> = {}) =>
    requireStampedRoutes({ url: server.url, verify: TRUST, routes: await routesOfAnApp(), samples: SAMPLES, ...change })

  test('every answer of every route is verified', async () => {
    expect(await routesOfAnApp()).toEqual(Object.keys(SAMPLES))
    expect(await require_()).toBe(4)
    expect(server.seen.map(({ method, url }) => `${method} ${url}`)).toEqual([
      'GET /reports/7?x=1',
      'GET /none',
      'POST /reports',
      'PUT /reports',
    ])
  })

  test('names all that is wrong at once', async () => {
    const { 'PUT /reports': _, ...rest } = SAMPLES
    const samples = {
      ...rest,
      'POST /reports': [{ path: '/bare' }],
      'GET /reports/:id': [{ path: '/none', status: 200 }],
      'GET /gone': [{ path: '/' }],
    } as const
    await expect(require_({ samples })).rejects.toMatchObject({
      faults: [
        { where: 'GET /reports/:id (/none)', code: 'OTHER_STATUS' },
        { where: 'POST /reports (/bare)', code: 'STAMP_MISSING' },
        { where: 'PUT /reports', code: 'NO_SAMPLE' },
        { where: 'GET /gone', code: 'NO_ROUTE' },
      ],
    })
  })
})

describe('exporters', () => {
  const now = () => new Date('2026-11-23T09:30:00.123Z')
  const sign = stampSigner(JSON.stringify(KEYRING), { tenant: 'acme', producerId: 'reports/ledger-api', now })
  const contextOf = (name: string): StampContext => ({
    classification: 'internal',
    target: `/exports/${name}`,
    mediaType: 'text/csv',
    channel: 'internal',
    policyRevision: 'job-7',
  })
  const expected = (name: string) =>
    ({ tenant: 'acme', channel: 'internal', method: 'GET', target: `/exports/${name}`, status: 200 }) as const
  const check = (exporter: (folder: string) => Promise<unknown>) =>
    requireStampedExports({ authority: TRUST.authority, expected, exporter })
  const write = (folder: string, name: string, content: string) => writeFile(path.join(folder, name), content)

  test('every file is verified', async () => {
    const names = await check(async (folder) => {
      for (const name of ['b.csv', 'a.csv'])
        await exportStamped(path.join(folder, name), ['x\n'], contextOf(name), sign)
    })
    expect(names).toEqual(['a.csv', 'b.csv'])
  })

  const { jcs } = attachStamp(Buffer.from('x'), contextOf('a.csv'), sign)
  test.each<{ name: string; exporter: (folder: string) => Promise<unknown>; want: string }>([
    { name: 'nothing', exporter: async () => {}, want: 'NO_FILE' },
    { name: 'a file without a stamp', exporter: (folder) => write(folder, 'a.csv', 'x'), want: 'STAMP_MISSING' },
    { name: 'a stamp without a file', exporter: (folder) => write(folder, 'a.csv.stamp.json', jcs), want: 'NO_FILE' },
    { name: 'a folder', exporter: (folder) => mkdir(path.join(folder, 'deep')), want: 'NO_FILE' },
    {
      name: 'a file that changed',
      async exporter(folder) {
        await write(folder, 'a.csv.stamp.json', jcs)
        await write(folder, 'a.csv', 'y')
      },
      want: 'STAMP_PAYLOAD_MISMATCH',
    },
    {
      name: 'a file that was there before its stamp',
      async exporter(folder) {
        await write(folder, 'a.csv', 'x')
        await write(folder, 'a.csv.stamp.json', jcs)
      },
      want: 'SEEN_UNSTAMPED',
    },
  ])('$name: $want', async ({ exporter, want }) => {
    await expect(check(exporter)).rejects.toMatchObject({ faults: [{ code: want }] })
  })
})
