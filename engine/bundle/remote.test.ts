import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { JWK } from 'jose'
import { afterEach, beforeAll, describe, expect, it } from 'vitest'
import { SignetError } from '#core/error/signet-error.ts'
import { createBundleClient } from './client.ts'
import { generateBundleKey, signBundle } from './sign.ts'
import { createStatusReporter } from './status-reporter.ts'
import type { TrustRoot } from './trust.ts'
import { fileTrust, remoteTrust } from './trust-source.ts'
import { watchBundle, type WatchBundleOptions } from './watch.ts'

const NOW = new Date('2026-11-23T09:30:00.000Z')
const LONG_POLL = 'application/vnd.openpolicyagent.bundles'

let old: { key: JWK; trust: TrustRoot }
let next: { key: JWK; trust: TrustRoot }
beforeAll(async () => {
  ;[old, next] = await Promise.all([generateBundleKey(), generateBundleKey()])
})

const cleanups: (() => unknown)[] = []
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).toReversed()) await cleanup()
})

function sign(sequence: number, key = old.key): Promise<Buffer> {
  return signBundle({
    modules: [
      {
        module: { scope: 'root', path: '/root/policy.wasm', aggregate: 'signet/aggregate_root/decisions', rules: [] },
        wasm: Buffer.from('wasm'),
      },
    ],
    policy: {},
    scope: '*',
    sequence,
    issuedAt: NOW,
    expiresAt: new Date(NOW.getTime() + 60_000),
    key,
  })
}

type Handler = (request: IncomingMessage, response: ServerResponse, body: string) => unknown
async function serve(handler: Handler): Promise<string> {
  const server = createServer((request, response) => {
    let body = ''
    request.on('data', (chunk: Buffer) => (body += chunk.toString()))
    request.on('end', () => handler(request, response, body))
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  cleanups.push(() => new Promise((resolve) => server.close(resolve).closeAllConnections()))
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`
}

async function file(text: string): Promise<string> {
  const directory = await mkdtemp(join(tmpdir(), 'signet-remote-test-'))
  cleanups.push(() => rm(directory, { recursive: true, force: true }))
  await writeFile(join(directory, 'file'), text)
  return join(directory, 'file')
}

function watch(source: string, changes: Partial<WatchBundleOptions> = {}): { seen: string[]; keys: string[] } {
  const seen: string[] = []
  const keys: string[] = []
  const controller = new AbortController()
  const done = watchBundle({
    source,
    intervalMs: 10,
    waitSeconds: 5,
    trust: old.trust,
    scope: '*',
    onBundle: (bundle) => {
      seen.push(bundle.revision.split('-')[0]!)
      keys.push(bundle.keyId)
    },
    onError: (error) => seen.push(error.code),
    backoffMs: { first: 5, longest: 20 },
    signal: controller.signal,
    now: () => NOW,
    ...changes,
  })
  cleanups.push(() => {
    controller.abort()
    return done
  })
  return { seen, keys }
}

describe('watchBundle with a server that holds polls', () => {
  it('asks to wait, sends its token as it is now, and takes news at once', async () => {
    let etag = '"1"'
    let bytes = await sign(1)
    const tokenFile = await file('first\n')
    const asked: string[] = []
    let wake = (): void => {}
    const url = await serve(async (request, response) => {
      asked.push(
        `${request.headers.authorization} ${String(request.headers['prefer'])} ${request.headers['if-none-match'] ?? '-'}`,
      )
      if (request.headers['if-none-match'] === etag) await new Promise<void>((resolve) => (wake = resolve))
      response.writeHead(200, { 'content-type': LONG_POLL, etag }).end(bytes)
    })
    const client = createBundleClient({ tokenFile })
    cleanups.push(() => client.close())
    const { seen } = watch(url, { client, random: () => 0 })
    await expect.poll(() => asked.length).toBe(2)
    await writeFile(tokenFile, 'second')
    ;[etag, bytes] = ['"2"', await sign(2)]
    wake()
    await expect.poll(() => asked.length).toBe(3)
    expect(seen).toEqual(['1', '2'])
    expect(asked).toEqual([
      'Bearer first modes=snapshot;wait=5 -',
      'Bearer first modes=snapshot;wait=5 "1"',
      'Bearer second modes=snapshot;wait=5 "2"',
    ])
  })

  it('does not ask a server all the time that does not wait', async () => {
    let requests = 0
    const bytes = await sign(1)
    const url = await serve((request, response) => {
      requests += 1
      if (request.headers['if-none-match'] === undefined)
        response.writeHead(200, { 'content-type': LONG_POLL, etag: '"1"' }).end(bytes)
      else response.writeHead(304).end()
    })
    watch(url, { random: () => 0.2 })
    await new Promise((resolve) => setTimeout(resolve, 700))
    expect(requests).toBeGreaterThan(1)
    expect(requests).toBeLessThanOrEqual(5)
  })

  it('waits longer with each failure, and keeps what it had', async () => {
    const bytes = await sign(1)
    const times: number[] = []
    const url = await serve((_, response) => {
      times.push(performance.now())
      if (times.length === 1) response.writeHead(200, { 'content-type': LONG_POLL, etag: '"1"' }).end(bytes)
      else response.writeHead(times.length % 2 === 0 ? 403 : 302, { location: 'http://127.0.0.1:1/' }).end()
    })
    const { seen } = watch(url, { backoffMs: { first: 20, longest: 200 }, random: () => 1 })
    await expect.poll(() => times.length, { timeout: 5_000 }).toBe(6)
    const gaps = times.slice(2).map((time, index) => time - times[index + 1]!)
    expect(gaps.map((gap) => gap >= 19)).toEqual([true, true, true, true])
    expect(gaps[3]! / gaps[0]!).toBeGreaterThan(2)
    expect([...new Set(seen)]).toEqual(['1', 'BUNDLE_UNAVAILABLE'])
  })
})

describe('a trust root behind a URL', () => {
  it('is asked for again when a bundle is signed by a key that is not in it, and no more often than it may', async () => {
    let jwks = old.trust
    let trustReads = 0
    const bundles = [await sign(1), await sign(2, next.key)]
    const url = await serve((request, response) => {
      if (request.url === '/trust') {
        trustReads += 1
        response.end(JSON.stringify(jwks))
      } else response.writeHead(200, { 'content-type': LONG_POLL }).end(bundles[0])
    })
    const client = createBundleClient()
    cleanups.push(() => client.close())
    const trust = remoteTrust(`${url}/trust`, client, { minIntervalMs: 200 })
    const { seen, keys } = watch(url, { client, trust })
    await expect.poll(() => seen).toContain('1')
    expect(trustReads).toBe(1)
    bundles.shift()
    await expect
      .poll(() => seen.filter((code) => code === 'BUNDLE_UNTRUSTED').length, { timeout: 5_000 })
      .toBeGreaterThan(5)
    expect(trustReads).toBeLessThan(5)
    jwks = next.trust
    await expect.poll(() => keys.at(-1), { timeout: 5_000 }).toBe(next.key.kid)
    expect(trust.current).toEqual(next.trust)
  })

  it('is waited for, and never replaced by what is none', async () => {
    let answer: [number, string] = [503, '']
    const bytes = await sign(1)
    const url = await serve((request, response) => {
      if (request.url === '/trust') response.writeHead(answer[0]).end(answer[1])
      else response.writeHead(200, { 'content-type': LONG_POLL }).end(bytes)
    })
    const client = createBundleClient()
    cleanups.push(() => client.close())
    const { seen } = watch(url, { client, trust: remoteTrust(`${url}/trust`, client) })
    await expect.poll(() => seen.at(-1)).toBe('BUNDLE_UNAVAILABLE')
    answer = [200, '{"keys": []}']
    await expect.poll(() => seen.at(-1)).toBe('CONFIG_INVALID')
    answer = [200, JSON.stringify(old.trust)]
    await expect.poll(() => seen.at(-1)).toBe('1')
  })

  it('is re-read from a file, too', async () => {
    const path = await file(JSON.stringify(old.trust))
    const trust = fileTrust(path, JSON.stringify(old.trust), { minIntervalMs: 0 })
    const url = await serve(async (_, response) =>
      response.writeHead(200, { 'content-type': LONG_POLL }).end(await sign(1, next.key)),
    )
    const { seen } = watch(url, { trust })
    await expect.poll(() => seen.at(-1)).toBe('BUNDLE_UNTRUSTED')
    await writeFile(path, JSON.stringify(next.trust))
    await expect.poll(() => seen.at(-1)).toBe('1')
  })
})

describe('the bundle client', () => {
  it('sends a token over https only, or to this machine', async () => {
    const client = createBundleClient({ tokenFile: await file('hunter2') })
    cleanups.push(() => client.close())
    const call = { timeoutMs: 1_000, maxBytes: 10, signal: new AbortController().signal, authorised: true }
    await expect(client.call({ ...call, url: 'http://192.0.2.1/v1/bundles?x=1' })).rejects.toMatchObject({
      code: 'BUNDLE_UNAVAILABLE',
      message: 'A token is not sent to http://192.0.2.1/v1/bundles: it is not https',
    })
    const url = await serve((_, response) => response.end('x'.repeat(11)))
    await expect(client.call({ ...call, url })).rejects.toMatchObject({ code: 'BUNDLE_INVALID' })
  })
})

describe('the status reporter', () => {
  type Report = { labels: object; bundles: Record<string, Record<string, unknown>> }
  async function setup(answer: (count: number) => number = () => 200) {
    const reports: Report[] = []
    const url = await serve((_, response, body) => {
      reports.push(JSON.parse(body) as Report)
      response.writeHead(answer(reports.length)).end('{}')
    })
    const client = createBundleClient()
    const reporter = createStatusReporter({
      url,
      client,
      name: 'namespace/shop',
      labels: { pod: 'web-1' },
      heartbeatMs: 100,
      minIntervalMs: 5,
      now: () => NOW,
    })
    cleanups.push(
      () => client.close(),
      () => reporter.stop(),
    )
    return { reports, reporter, last: () => reports.at(-1)?.bundles['namespace/shop'] }
  }

  it('tells what is in force and what failed, in OPA’s shape, and again as a heartbeat', async () => {
    const { reports, reporter, last } = await setup()
    reporter.activated('1-0123456789abcdef')
    await expect
      .poll(last)
      .toMatchObject({ active_revision: '1-0123456789abcdef', last_successful_activation: NOW.toISOString() })
    reporter.failed(new SignetError('BUNDLE_STALE', 'too old'))
    await expect
      .poll(last)
      .toMatchObject({ active_revision: '1-0123456789abcdef', code: 'BUNDLE_STALE', message: 'too old' })
    reporter.contacted()
    await expect.poll(() => last()?.['code']).toBeUndefined()
    const count = reports.length
    await expect.poll(() => reports.length).toBeGreaterThan(count + 1)
    expect(reports[0]!.labels).toEqual({ pod: 'web-1' })
  })

  it('tries again when it was not taken, with what is true then', async () => {
    const { reports, reporter, last } = await setup((count) => (count < 3 ? 503 : 200))
    reporter.activated('1-0123456789abcdef')
    await expect.poll(() => reports.length).toBe(1)
    reporter.activated('2-0123456789abcdef')
    await expect.poll(() => reports.length, { timeout: 5_000 }).toBeGreaterThan(3)
    expect(last()).toMatchObject({ active_revision: '2-0123456789abcdef' })
  })
})
