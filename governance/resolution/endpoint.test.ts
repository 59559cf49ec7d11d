import { createServer } from 'node:http'
import { BlockList, type AddressInfo } from 'node:net'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { createEndpointObserver, type EndpointObserver } from './endpoint.ts'

const server = createServer((request, response) => {
  const url = request.url ?? ''
  const json = (body: string): void => void response.writeHead(200, { 'content-type': 'application/json' }).end(body)
  if (url === '/object') return json('{"b": 1, "a": {"c": 2}}')
  if (url === '/array') return json('[{"a": 1}, {"b": 2}, 3, null]')
  if (url === '/null') return json('null')
  if (url === '/broken') return json('{"a"')
  if (url === '/many') return json(JSON.stringify(Object.fromEntries(Array.from({ length: 1_001 }, (_, n) => [n, 1]))))
  if (url === '/odd') return json('{"\\ud800": 1}')
  if (url === '/large') return json(`"${'x'.repeat(1_100_000)}"`)
  if (url === '/text') return void response.writeHead(500, { 'content-type': 'text/plain' }).end('{"a": 1}')
  if (url === '/moved') return void response.writeHead(302, { location: '/object' }).end()
  if (url === '/cut') return void response.destroy()
  if (url === '/dripping') return void response.writeHead(200, { 'content-type': 'application/json' }).write('{')
  return undefined
})
let origin = ''
let observer: EndpointObserver
const allowed = new BlockList()
allowed.addSubnet('127.0.0.0', 8, 'ipv4')
beforeAll(async () => {
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  origin = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
  const origins = new Map([['acme', new Set([origin, 'https://inside.example'])]])
  const resolve = (_host: string, done: (error: null, found: { address: string; family: number }[]) => void): void =>
    done(null, [{ address: '10.0.0.1', family: 4 }])
  observer = createEndpointObserver({ origins, allowed, timeoutMs: 1_000, resolve })
})
afterAll(async () => {
  await observer.close()
  server.closeAllConnections()
  server.close()
})

describe('what is seen of an endpoint', () => {
  it.each([
    { url: '/object', want: { status: 200, fields: ['a', 'b'] } },
    { url: '/array', want: { status: 200, fields: ['a', 'b'] } },
    { url: '/null', want: { status: 200, fields: [] } },
    { url: '/text', want: { status: 500, fields: [] } },
    { url: '/moved', want: { status: 302, fields: [] } },
  ])('$url', async ({ url, want }) => {
    expect(await observer.observe('acme', `${origin}${url}`)).toEqual(want)
  })
  it.each([
    { url: '/broken', want: /JSON is none/ },
    { url: '/many', want: /more, or longer/ },
    { url: '/odd', want: /more, or longer/ },
    { url: '/large', want: /too much/ },
    { url: '/cut', want: /does not answer/ },
    { url: '/hangs', want: /does not answer in time/ },
    { url: '/dripping', want: /does not answer in time/ },
  ])('$url cannot be looked at', async ({ url, want }) => {
    await expect(observer.observe('acme', `${origin}${url}`)).rejects.toThrow(want)
  })
})

it.each([
  {
    what: 'of another tenant',
    tenant: 'globex',
    url: () => `${origin}/object`,
    want: /is not one that may be looked at/,
  },
  { what: 'elsewhere', tenant: 'acme', url: () => 'https://other.example/x', want: /is not one that may be looked at/ },
  { what: 'with a password', tenant: 'acme', url: () => 'https://a:b@inside.example/', want: /a user or a password/ },
  { what: 'of a cloud’s metadata', tenant: 'acme', url: () => 'http://169.254.169.254/', want: /not https/ },
  { what: 'whose name leads inside', tenant: 'acme', url: () => 'https://inside.example/', want: /not public/ },
  { what: 'that is none', tenant: 'acme', url: () => 'http://[', want: /the URL is none/ },
])('nothing is asked of a URL $what', async ({ tenant, url, want }) => {
  await expect(observer.observe(tenant, url())).rejects.toThrow(want)
})
