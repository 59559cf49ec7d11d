import { readdir, readFile, writeFile } from 'node:fs/promises'
import path from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { Channel } from '#core/stamp/schema.ts'
import { CLIENTS, type ClientAnswer, type ClientName, type ClientRequest } from '#test/support/http-clients.ts'
import { startLedgerStack, type LedgerStack } from '#test/support/ledger.ts'
import { createClient, type LogItem } from '#test/support/producer.ts'
import { startProxyStack, type LedgerAccess, type ProxyStack } from '#test/support/proxy-stack.ts'
import { startFileServer, startJsonServer, type FileService, type RealService } from '#test/support/real-services.ts'
import {
  locateStamp,
  openVerifiers,
  stampLink,
  type Claim,
  type Evidence,
  type Verifiers,
} from '#test/support/verifiers.ts'

/**
 * The whole of it on input that nobody here wrote: json-server and nginx behind the proxy with the standard pack, four HTTP clients
 * before it, the real ledger behind it. Every answer is verified by the command line tool and by the verifier in Python.
 */
let ledger: LedgerStack
let json: { service: RealService; proxy: ProxyStack }
let files: { service: FileService; proxy: ProxyStack }
let verifiers: Verifiers

beforeAll(async () => {
  ledger = await startLedgerStack()
  verifiers = await openVerifiers()
  const access = accessTo(ledger)
  const [jsonServer, fileServer] = await Promise.all([startJsonServer(), startFileServer()])
  console.log(`real services: ${jsonServer.name}; ${fileServer.name}`)
  json = { service: jsonServer, proxy: await startProxyStack({ upstream: jsonServer.url, ledger: access }) }
  files = { service: fileServer, proxy: await startProxyStack({ upstream: fileServer.url, ledger: access }) }
  await Promise.all([json.proxy.ready(), files.proxy.ready()])
})
afterAll(async () => {
  await Promise.all(
    [json, files].map(async (one) => {
      await one?.proxy.stop()
      await one?.service.stop()
    }),
  )
  await ledger?.stop()
  await verifiers?.close()
})

function accessTo(stack: LedgerStack): LedgerAccess {
  const ack = stack.keyring.keys.find((key) => key.use === 'ack')
  if (ack === undefined) throw new Error('the ledger has no acknowledgement key')
  const { private_key: _, ...ackKey } = ack
  return { url: stack.ledgers[0]?.url ?? '', token: stack.token('proxy'), ackKey }
}

type Visit = {
  readonly target: string
  readonly method?: string
  readonly headers?: Record<string, string>
  readonly body?: unknown
  readonly want?: number
  readonly channel?: Channel
  readonly client?: ClientName
}
type Seen = {
  readonly visit: Visit
  readonly request: ClientRequest
  readonly answer: ClientAnswer
  readonly claim: Claim
}

/** Hash of every stamp that was verified, and of every refusal its request id: at the end the ledger has to know each. */
const verified = new Set<string>()
const refused = new Set<string>()
const NAMES = Object.keys(CLIENTS) as ClientName[]
/** Not fetch: it adds `Cache-Control: no-cache` to a request with a condition of the caller's, and express heeds that. */
const OWN_CONDITIONS = ['curl', 'urllib', 'undici'] as const
let turn = 0

/** Without a client named, they take turns. */
async function ask(proxy: ProxyStack, visit: Visit): Promise<Seen> {
  const channel = visit.channel ?? 'external'
  const client = visit.client ?? NAMES[turn++ % NAMES.length] ?? 'fetch'
  const hasBody = visit.body !== undefined
  const request: ClientRequest = {
    url: proxy[channel] + visit.target,
    method: visit.method ?? 'GET',
    headers: { ...(hasBody ? { 'content-type': 'application/json' } : {}), ...visit.headers },
    body: hasBody ? JSON.stringify(visit.body) : null,
  }
  const answer = await CLIENTS[client](request)
  expect(answer.status, `${client} ${request.method} ${request.url}: ${answer.body.toString('latin1', 0, 600)}`).toBe(
    visit.want ?? 200,
  )
  return {
    visit,
    request,
    answer,
    claim: { target: visit.target, method: request.method, status: answer.status, tenant: proxy.tenant, channel },
  }
}

async function evidenceOf({ request, answer }: Seen): Promise<Evidence> {
  const evidence = await locateStamp(request.url, answer)
  if (evidence === null) throw new Error(`${request.method} ${request.url} has no stamp`)
  return evidence
}

/** Both verifiers, on each answer, with the whole subject; they must agree on the stamp. Gives the stamps' places. */
async function verifyAll(proxy: ProxyStack, all: readonly Seen[]): Promise<Evidence['place'][]> {
  const evidence = await Promise.all(all.map(evidenceOf))
  const lines = await Promise.all(
    all.map(({ claim }, index) => verifiers.commandLine(evidence[index] as Evidence, proxy.keyringFile, claim)),
  )
  const [cli, python] = await Promise.all([verifiers.cli(lines), verifiers.python(lines)])
  for (const [index, { request }] of all.entries()) {
    const [byCli, byPython] = [cli[index], python[index]]
    expect(byCli, `signet verify of ${request.method} ${request.url}`).toMatchObject({
      code: 0,
      hash: expect.any(String),
    })
    expect(byPython, `signet_verify.py of ${request.method} ${request.url}`).toMatchObject({
      code: 0,
      hash: byCli?.hash,
    })
    verified.add(byCli?.hash ?? '')
  }
  return evidence.map(({ place }) => place)
}

/** A refusal: a problem document, and nothing of what was refused. */
function expectRefused(
  { answer, request }: Seen,
  secrets: readonly string[],
): { violations: { rule: string }[]; request_effect: string } {
  expect(answer.headers.get('content-type')).toBe('application/problem+json')
  expect(answer.headers.get('compliance-stamp')).toBeUndefined()
  const text = answer.body.toString()
  for (const secret of secrets) expect(text, `the refusal of ${request.url}`).not.toContain(secret)
  const problem = JSON.parse(text) as { request_id: string; violations: { rule: string }[]; request_effect: string }
  refused.add(problem.request_id)
  return problem
}

describe('json-server', () => {
  test('reads: lists, items, filters, pages, JSONP, its home page, errors; on both channels, with every client', async () => {
    const targets: Visit[] = [
      { target: '/cars' },
      { target: '/cars/1' },
      { target: '/meta' },
      { target: '/cars?Origin=Japan&_limit=5' },
      { target: '/cars?q=ford&_sort=Horsepower&_order=desc' },
      { target: '/movies?_page=2&_limit=10' },
      { target: '/movies?Title=Broken%20Arrow&x=%C3%A9' },
      { target: '/capitals' },
      { target: '/cars/1?callback=show' },
      { target: '/' },
      { target: '/cars/99999', want: 404 },
      { target: '/nowhere', want: 404 },
      { target: '/cars/1', method: 'HEAD' },
      {
        target: '/cars',
        method: 'OPTIONS',
        headers: { origin: 'https://app.example', 'access-control-request-method': 'PUT' },
        want: 204,
      },
    ]
    const seen: Seen[] = []
    for (const channel of ['external', 'internal'] as const)
      for (const visit of targets) seen.push(await ask(json.proxy, { ...visit, channel }))
    for (const client of NAMES)
      seen.push(
        await ask(json.proxy, { target: '/movies/7', client }),
        await ask(json.proxy, { target: '/movies?_limit=3', client }),
      )
    const places = await verifyAll(json.proxy, seen)
    expect(new Set(places)).toEqual(new Set(['embedded', 'header']))
  })

  test('its own links of a page stay beside ours', async () => {
    const { answer } = await ask(json.proxy, { target: '/movies?_page=2&_limit=10' })
    expect(answer.headers.get('link')).toMatch(/rel="first".*rel="next".*rel="describedby"/)
    expect(answer.headers.get('x-total-count')).toBe('300')
  })

  test('writes: create, replace, change, delete, and what is refused as malformed', async () => {
    const car = { Name: 'trabant 601', Miles_per_Gallon: 35, Origin: 'Europe' }
    const created = await ask(json.proxy, { target: '/cars', method: 'POST', body: car, want: 201, client: 'curl' })
    const { id } = JSON.parse(created.answer.body.toString()) as { id: number }
    const target = `/cars/${id}`
    const seen = [created]
    seen.push(await ask(json.proxy, { target, method: 'PUT', body: { ...car, Horsepower: 26 }, client: 'urllib' }))
    seen.push(await ask(json.proxy, { target, method: 'PATCH', body: { Year: '1963-01-01' }, client: 'fetch' }))
    seen.push(await ask(json.proxy, { target, client: 'undici' }))
    seen.push(await ask(json.proxy, { target, method: 'DELETE', client: 'undici' }))
    seen.push(await ask(json.proxy, { target, method: 'DELETE', want: 404 }))
    expect(await verifyAll(json.proxy, seen)).toEqual(seen.map(() => 'embedded'))
    const direct = await fetch(json.service.url + target)
    expect(direct.status).toBe(404)
  })

  test('people: held back from the outside, with how to fix it; stamped as GDPR on the inside', async () => {
    const outside = [
      await ask(json.proxy, { target: '/riots', want: 422 }),
      await ask(json.proxy, { target: '/riots/1', want: 422 }),
      await ask(json.proxy, { target: '/db', want: 422 }),
    ]
    for (const one of outside) {
      const problem = expectRefused(one, ['Aguilar', 'last_name'])
      expect(problem.violations.map(({ rule }) => rule)).toEqual(['external-approval'])
      expect(problem.request_effect).toBe('none')
    }
    // What was created stays created, and the client is told so.
    const body = { first_name: 'Ada', last_name: 'Lovelace', neighborhood: 'Marylebone' }
    const written = await ask(json.proxy, { target: '/riots', method: 'POST', body, want: 422 })
    expect(expectRefused(written, ['Lovelace']).request_effect).toBe('completed')
    const inside = [
      await ask(json.proxy, { target: '/riots', channel: 'internal' }),
      await ask(json.proxy, { target: '/riots/1', channel: 'internal' }),
      await ask(json.proxy, { target: '/db', channel: 'internal' }),
      await ask(json.proxy, { target: '/riots?last_name=Lovelace', channel: 'internal' }),
    ]
    await verifyAll(json.proxy, inside)
    expect(inside[1]?.answer.body.toString()).toMatch(
      /"data_classification":"confidential".*"regulatory_compliance":\["GDPR"\]/,
    )
  })

  test('conditional requests with the tags that the client was given', async () => {
    for (const client of OWN_CONDITIONS) {
      const first = await ask(json.proxy, { target: '/cars/2', client })
      const tag = first.answer.headers.get('etag') ?? ''
      expect(tag).toMatch(/^W\/"/)
      const again = await ask(json.proxy, { target: '/cars/2', client, headers: { 'if-none-match': tag }, want: 304 })
      expect(again.answer.headers.get('compliance-stamp')).toBeUndefined()
      expect(again.answer.body.length).toBe(0)
    }
  })
})

describe('files', () => {
  const largest = 1_048_576
  const reads = /\.(csv|tsv|json)$/

  async function each(): Promise<{ name: string; bytes: Buffer }[]> {
    const names = (await readdir(files.service.files)).toSorted()
    return Promise.all(
      names.map(async (name) => ({ name, bytes: await readFile(path.join(files.service.files, name)) })),
    )
  }

  test('every data set: the same bytes, stamped; held back outside only where it names people, or is too large to be read', async () => {
    const people = new Set(['la-riots.csv', 'lookup_groups.csv'])
    const seen: Seen[] = []
    const sets = await each()
    expect(sets.length).toBeGreaterThan(35)
    expect(sets.filter(({ bytes, name }) => bytes.length > largest && reads.test(name)).length).toBeGreaterThan(3)
    for (const { name, bytes } of sets) {
      const target = `/data/${name}`
      const unread = bytes.length > largest && reads.test(name)
      const isRefused = people.has(name) || unread
      const outside = await ask(files.proxy, { target, want: isRefused ? 422 : 200 })
      if (isRefused) {
        const { violations } = expectRefused(outside, [bytes.toString('latin1', 40, 70)])
        expect(violations.length).toBeGreaterThan(0)
      } else seen.push(outside)
      // Inside, everything answers; those that answer outside are tried every third time.
      if (isRefused || seen.length % 3 === 0) seen.push(await ask(files.proxy, { target, channel: 'internal' }))
    }
    await verifyAll(files.proxy, seen)
    for (const { visit, answer } of seen) {
      const { bytes } = sets.find(({ name }) => visit.target === `/data/${name}`) ?? { bytes: Buffer.alloc(0) }
      const end = answer.body.lastIndexOf('"_compliance":{')
      const payload =
        end === -1 ? answer.body : Buffer.concat([answer.body.subarray(0, end - 1), bytes.subarray(end - 1)])
      expect(payload.equals(bytes), visit.target).toBe(true)
    }
  })

  test('NAME.stamp.json is the stamp of NAME, for the bytes as the service has them', async () => {
    const names = ['stocks.csv', 'unemployment.tsv', 'cars.json', 'flare.json', 'ffox.png', 'flights-200k.arrow']
    const lines: string[][] = []
    for (const name of [...names, 'zipcodes.csv', 'la-riots.csv']) {
      const channel: Channel = names.includes(name) ? 'external' : 'internal'
      const { answer } = await ask(files.proxy, { target: `/data/${name}.stamp.json`, channel })
      const evidence: Evidence = {
        body: await readFile(path.join(files.service.files, name)),
        place: 'sidecar',
        stamp: answer.body,
      }
      const claim = { target: `/data/${name}`, method: 'GET', status: 200, tenant: files.proxy.tenant, channel }
      lines.push(await verifiers.commandLine(evidence, files.proxy.keyringFile, claim))
    }
    for (const verdicts of [await verifiers.cli(lines), await verifiers.python(lines)]) {
      for (const [index, verdict] of verdicts.entries()) {
        expect(verdict, lines[index]?.join(' ')).toMatchObject({ code: 0 })
        verified.add(verdict.hash ?? '')
      }
    }
    expectRefused(await ask(files.proxy, { target: '/data/la-riots.csv.stamp.json', want: 422 }), ['Aguilar'])
    await ask(files.proxy, { target: '/data/none.csv.stamp.json', want: 404 })
  })

  test('redirect of a folder, a listing, 404, HEAD, a method that is not allowed', async () => {
    const isNginx = files.service.kind === 'nginx'
    const seen = [
      await ask(files.proxy, { target: '/data', want: 301, client: 'curl' }),
      await ask(files.proxy, { target: '/data?a=b', want: 301, client: 'fetch' }),
      await ask(files.proxy, { target: '/data/none.csv', want: 404, client: 'urllib' }),
      await ask(files.proxy, { target: '/data/stocks.csv', method: 'HEAD', client: 'curl' }),
      await ask(files.proxy, { target: '/data/zipcodes.csv', method: 'HEAD', client: 'undici' }),
      await ask(files.proxy, { target: '/data/stocks.csv?version=2', client: 'urllib' }),
    ]
    if (isNginx) {
      seen.push(await ask(files.proxy, { target: '/data/', client: 'curl' }))
      seen.push(await ask(files.proxy, { target: '/data/stocks.csv', method: 'DELETE', want: 405, client: 'curl' }))
    }
    if (isNginx) {
      // Binary content that a careless service calls text cannot be read as such: what cannot be read does not leave.
      expectRefused(await ask(files.proxy, { target: '/typeless/ffox.png', want: 422 }), ['PNG'])
      seen.push(await ask(files.proxy, { target: '/typeless/ffox.png', channel: 'internal' }))
      // A table of people is one under any name: nginx knows no CSV and calls it application/octet-stream, others call it text.
      expectRefused(await ask(files.proxy, { target: '/stock/la-riots.csv', want: 422 }), ['Aguilar'])
      expectRefused(await ask(files.proxy, { target: '/typeless/la-riots.csv', want: 422 }), ['Aguilar'])
      const unnamed = await ask(files.proxy, { target: '/stock/stocks.csv' })
      expect(unnamed.answer.headers.get('content-type')).toBe('application/octet-stream')
      seen.push(unnamed, await ask(files.proxy, { target: '/typeless/stocks.csv' }))
    }
    await verifyAll(files.proxy, seen)
    expect(new URL(seen[0]?.answer.headers.get('location') ?? '', files.proxy.external).pathname).toBe('/data/')
  })

  test('a conditional request gets 304 while nothing changed, and never a part', async () => {
    for (const client of files.service.kind === 'nginx' ? NAMES : OWN_CONDITIONS) {
      for (const target of ['/data/stocks.csv', '/data/flare.json']) {
        const first = await ask(files.proxy, { target, client })
        const tag = first.answer.headers.get('etag') ?? ''
        expect(tag).toMatch(/^W\/"/)
        const again = await ask(files.proxy, {
          target,
          client,
          headers: { 'if-none-match': `"other", ${tag}` },
          want: 304,
        })
        expect(again.answer.headers.get('compliance-stamp')).toBeUndefined()
        await ask(files.proxy, { target, client, headers: { 'if-none-match': '"other"' } })
      }
    }
    const ranged = await ask(files.proxy, {
      target: '/data/stocks.csv',
      headers: { range: 'bytes=0-9' },
      client: 'curl',
    })
    expect(ranged.answer.headers.get('accept-ranges')).toBe('none')
    await verifyAll(files.proxy, [ranged])
  })

  test('an answer past the buffer points to its stamp, which is there when it has passed', async () => {
    const { answer } = await ask(files.proxy, {
      target: '/data/birdstrikes.json',
      channel: 'internal',
      client: 'fetch',
    })
    expect(answer.headers.get('compliance-stamp')).toBeUndefined()
    expect(stampLink(answer)).toMatch(/\/requests\//)
  })

  test('signet verify URL fetches and verifies by itself', async () => {
    const cases = [
      { url: `${json.proxy.external}/cars/3`, keyring: json.proxy.keyringFile, channel: 'external' },
      { url: `${files.proxy.external}/data/stocks.csv?a=1`, keyring: files.proxy.keyringFile, channel: 'external' },
      { url: `${files.proxy.internal}/data/zipcodes.csv`, keyring: files.proxy.keyringFile, channel: 'internal' },
      { url: `${files.proxy.external}/data`, keyring: files.proxy.keyringFile, channel: 'external' },
    ]
    const verdicts = await verifiers.cli(
      cases.map(({ url, keyring, channel }) => ['--keyring', keyring, '--tenant', 'acme', '--channel', channel, url]),
    )
    for (const verdict of verdicts) {
      expect(verdict).toMatchObject({ code: 0 })
      verified.add(verdict.hash ?? '')
    }
  })
})

test('the ledger has each stamp and each refusal once, and proves its chain', async () => {
  const auditor = createClient(ledger.ledgers[0]?.url ?? '', ledger.token('auditor'))
  expect(verified.size).toBeGreaterThan(100)
  expect(refused.size).toBeGreaterThan(8)
  const items = await expect
    .poll(
      async () => {
        const all = await auditor.all()
        const known = new Set(all.map(({ event }) => event.stamp_hash))
        return [...verified].every((hash) => known.has(hash)) ? all : null
      },
      { timeout: 20_000 },
    )
    .not.toBeNull()
    .then(() => auditor.all())
  const count = (matches: (item: LogItem) => boolean): number => items.filter(matches).length
  for (const hash of verified)
    expect(
      count(({ event }) => event.stamp_hash === hash),
      hash,
    ).toBe(1)
  for (const id of refused)
    expect(
      count(({ event }) => event.request_id === id && event.outcome === 'denied'),
      id,
    ).toBe(1)
  expect(count(({ event }) => event.event_type === 'audit.gap' || event.event_type === 'audit.refused')).toBe(0)
  const tokenFile = path.join(ledger.dir, 'auditor.token')
  await writeFile(tokenFile, ledger.token('auditor'), { mode: 0o600 })
  const [verdict] = await verifiers.cli([
    ['--ledger', '--url', auditor.url, '--token-file', tokenFile, '--keyring', ledger.keyringFile, '--tenant', 'acme'],
  ])
  expect(verdict, verdict?.output).toMatchObject({ code: 0 })
  expect(await auditor.verify()).toMatchObject({ ok: true })
})
