import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import http from 'node:http'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { Readable } from 'node:stream'
import { brotliDecompressSync, constants, createGzip, gunzipSync, gzipSync } from 'node:zlib'
import { buffer, text } from 'node:stream/consumers'
import { setTimeout as sleep } from 'node:timers/promises'
import * as undici from 'undici'
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest'
import { parseStampHeader } from '#core/stamp/header.ts'
import { verifyStamp } from '#core/stamp/verify.ts'
import { exchange, type HttpAnswer } from '#test/support/http-exchange.ts'
import {
  ledgerAccess,
  PASS_RULE,
  refusingRule,
  startProxyFixture,
  subjectOf,
  until,
  type ProxyFixture,
} from '#test/support/proxy-fixture.ts'
import { startFileServer, type FileService } from '#test/support/real-services.ts'
import { startProxyStack, type ProxyStack } from '#test/support/proxy-stack.ts'

const MIB = 1_048_576
/** Large as it is, small in a coding. */
const ROWS = Buffer.from(Array.from({ length: 200_000 }, (_, row) => `${row},${(row * 7919) % 1000}\n`).join(''))
const TABLE = Buffer.from('a,b\n1,2\n')
/** Large in any coding. */
const NOISE = noise(3 * MIB)

let fixture: ProxyFixture
beforeAll(async () => {
  fixture = await startProxyFixture({
    rules: [PASS_RULE, refusingRule('not-large', 'input.response.size > 5000000')],
    env: { SIGNET_COMPRESSION_MAX_RATIO: '50' },
  })
})
afterAll(() => fixture.stop())
afterEach(() => until('nothing held', async () => (await fixture.stack.sample('signet_buffered_bytes')) === 0))

function answerWith(body: Buffer, headers: http.OutgoingHttpHeaders = {}): void {
  fixture.upstream.answer = (_request, response) =>
    response.writeHead(200, { 'content-type': 'text/csv', 'content-encoding': 'gzip', ...headers }).end(body)
}

function ask(accept: string | null, headers: http.OutgoingHttpHeaders = {}): Promise<HttpAnswer> {
  const coding = accept === null ? {} : { 'accept-encoding': accept }
  return exchange(`${fixture.stack.external}/large`, { headers: { ...coding, ...headers } })
}

/** The stamp of a body that has passed, verified over its content. */
async function verifyStreamed(answer: HttpAnswer, payload: Buffer): Promise<string> {
  const link = /<(\/\.well-known\/signet\/requests\/[^>]+)>/.exec(String(answer.headers['link']))?.[1]
  const stamp = await exchange(`${fixture.stack.external}${link}`)
  const { hash, subjectChecked } = verifyStamp({
    stampBytes: stamp.body,
    payload,
    keyring: fixture.stack.keyring,
    expected: subjectOf(fixture.stack, { target: '/large', mediaType: 'text/csv' }),
  })
  expect(subjectChecked).toBe(true)
  return hash
}

describe('content past the buffer', () => {
  test.each([
    { name: 'small as it comes', content: ROWS },
    { name: 'large as it comes, too', content: NOISE },
  ])('$name: passes as it came, stamped by its content', async ({ content }) => {
    const coded = gzipSync(content)
    for (const length of [true, false]) {
      answerWith(coded, length ? { 'content-length': String(coded.length) } : {})
      const answer = await ask('gzip, br', { te: 'trailers' })
      expect(answer.status).toBe(200)
      expect(answer.complete).toBe(true)
      expect(answer.headers).toMatchObject({ 'content-encoding': 'gzip', vary: 'Accept-Encoding' })
      expect(answer.body.equals(coded)).toBe(true)
      const hash = await verifyStreamed(answer, content)
      expect(parseStampHeader(String(answer.trailers['compliance-stamp'])).hash).toBe(hash)
    }
  })

  test.each([
    { name: 'small as it comes', content: ROWS },
    { name: 'large as it comes, too', content: NOISE },
  ])('$name: decoded for who does not take its coding, however slowly', async ({ content }) => {
    const coded = gzipSync(content)
    answerWith(coded, { 'content-length': String(coded.length) })
    const answer = await new Promise<HttpAnswer>((resolve, reject) => {
      const request = http.get(`${fixture.stack.external}/large`, { agent: false }, (response) => {
        response.pause()
        const { headers, rawHeaders } = response
        sleep(200)
          .then(() => buffer(response))
          .then((body) =>
            resolve({ status: 200, headers, rawHeaders, body, trailers: {}, complete: response.complete }),
          )
          .catch(reject)
      })
      request.once('error', reject)
    })
    expect(answer.complete).toBe(true)
    expect(answer.headers['content-encoding']).toBeUndefined()
    expect(answer.headers['content-length']).toBeUndefined()
    expect(answer.body.equals(content)).toBe(true)
    await verifyStreamed(answer, content)
  })

  test('two layers', async () => {
    const content = Buffer.concat([ROWS, NOISE.subarray(0, 100_000)])
    const coded = gzipSync(gzipSync(content))
    answerWith(coded, { 'content-encoding': 'gzip, gzip' })
    const asItCame = await ask('gzip')
    expect(asItCame.headers['content-encoding']).toBe('gzip, gzip')
    expect(asItCame.body.equals(coded)).toBe(true)
    await verifyStreamed(asItCame, content)
    const plain = await ask(null)
    expect(plain.body.equals(content)).toBe(true)
    await verifyStreamed(plain, content)
  })

  test('its length is known where it came whole, and rules read it', async () => {
    answerWith(gzipSync(Buffer.concat([NOISE.subarray(0, 500_000), Buffer.alloc(5_000_000)])))
    const answer = await ask('gzip')
    expect(answer.status).toBe(422)
    expect(answer.body.toString()).toContain('not-large')
  })

  test('events in a coding pass one by one', async () => {
    const gzip = createGzip()
    fixture.upstream.answer = (_request, response) => {
      response.writeHead(200, { 'content-type': 'text/event-stream', 'content-encoding': 'gzip' })
      gzip.pipe(response)
    }
    const send = (text: string): void => {
      gzip.write(text)
      gzip.flush(constants.Z_SYNC_FLUSH)
    }
    const response = await new Promise<http.IncomingMessage>((resolve, reject) => {
      const headers = { 'accept-encoding': 'gzip' }
      const request = http.get(`${fixture.stack.external}/large`, { agent: false, headers }, resolve)
      request.once('error', reject)
      send('data: first\n\n')
    })
    let received = Buffer.alloc(0)
    response.on('data', (chunk: Buffer) => (received = Buffer.concat([received, chunk])))
    const seen = (): string => gunzipSync(received, { finishFlush: constants.Z_SYNC_FLUSH }).toString()
    await until('the first', () => received.length > 0 && seen() === 'data: first\n\n')
    send('data: second\n\n')
    await until('the second', () => seen() === 'data: first\n\ndata: second\n\n')
    gzip.end()
    await until('the end', () => response.complete)
  })

  test.each([
    { name: 'damaged', body: gzipSync(NOISE).fill(0, 2_500_000, 2_600_000), reason: 'damaged' },
    { name: 'more behind it', body: Buffer.concat([gzipSync(NOISE), Buffer.alloc(5)]), reason: 'damaged' },
    {
      name: 'a bomb behind noise',
      body: Buffer.concat([gzipSync(NOISE), gzipSync(Buffer.alloc(300 * MIB))]),
      reason: 'bomb',
    },
  ])('what cannot be read is cut off where it is found: $name', async ({ body, reason }) => {
    const sample = `signet_coding_refusals_total{reason="${reason}"}`
    const before = await fixture.stack.sample(sample)
    answerWith(body)
    const answer = await ask('gzip')
    expect(answer.status).toBe(200)
    expect(answer.complete).toBe(false)
    expect(answer.body.length).toBeLessThan(body.length)
    expect(await fixture.stack.sample(sample)).toBe(before + 1)
    const requestId = /requests\/([0-9a-f-]{36})/.exec(String(answer.headers['link']))?.[1] ?? ''
    const events = await fixture.events(requestId, 2)
    expect(events[1]).toMatchObject({
      event_type: 'egress.aborted',
      stamp_hash: null,
      context: { error: reason === 'bomb' ? 'DECOMPRESSION_LIMIT' : 'UPSTREAM_INVALID' },
    })
  })

  test('what cannot be read from the beginning is refused before anything has left', async () => {
    for (const [body, code] of [
      [Buffer.concat([await bomb(256), NOISE]), 'DECOMPRESSION_LIMIT'],
      [Buffer.concat([Buffer.from('no'), gzipSync(NOISE)]), 'UPSTREAM_INVALID'],
    ] as const) {
      answerWith(body)
      const answer = await ask('gzip')
      expect(answer.status).toBe(502)
      expect(JSON.parse(answer.body.toString())).toMatchObject({ code, request_effect: 'none' })
      // Decoded, it has begun to leave before it is known what it is.
      expect((await ask(null)).complete).toBe(code === 'UPSTREAM_INVALID')
    }
  })

  test('a client that goes away leaves no decoder behind', async () => {
    answerWith(gzipSync(NOISE), { 'content-length': '99999999' })
    for (const accept of ['gzip', 'identity']) {
      await new Promise<void>((resolve) => {
        const headers = { 'accept-encoding': accept }
        const request = http.get(`${fixture.stack.external}/large`, { agent: false, headers }, (response) => {
          response.once('data', () => {
            request.destroy()
            resolve()
          })
        })
        request.once('error', () => undefined)
      })
    }
    await until('the decoders to go', async () => (await fixture.stack.sample('signet_buffered_bytes')) === 0)
  })
})

test('1 GiB out of 1 MiB is refused, in bounded memory, while others are served', async () => {
  const oneGiB = await bomb(1024)
  expect(oneGiB.length).toBeLessThan(MIB)
  fixture.upstream.answer = ({ url }, response) => {
    if (url === '/small') response.writeHead(200, { 'content-type': 'application/json' }).end('{"a":1}')
    else response.writeHead(200, { 'content-type': 'text/csv', 'content-encoding': 'gzip' }).end(oneGiB)
  }
  await exchange(`${fixture.stack.external}/small`)
  const before = await peakMemory()
  let slowest = 0
  const state = { done: false }
  const bombs = Promise.all(Array.from({ length: 12 }, () => ask('gzip'))).finally(() => (state.done = true))
  while (!state.done) {
    const startedAt = performance.now()
    expect((await exchange(`${fixture.stack.external}/small`)).status).toBe(200)
    slowest = Math.max(slowest, performance.now() - startedAt)
  }
  for (const answer of await bombs) {
    expect(answer.status).toBe(502)
    expect(JSON.parse(answer.body.toString())).toMatchObject({ code: 'DECOMPRESSION_LIMIT' })
  }
  const grown = ((await peakMemory()) - before) / MIB
  console.log(
    `12 bombs of 1 GiB: ${grown.toFixed(0)} MiB more at the peak; slowest small answer ${slowest.toFixed(0)} ms`,
  )
  // Twelve times 1 MiB as it came, in pieces and joined; three decoders at a time; and the heap.
  expect(grown).toBeLessThan(128)
})

describe('real services, real clients', () => {
  let service: FileService
  let proxy: ProxyStack
  beforeAll(async () => {
    service = await startFileServer()
    proxy = await startProxyStack({ upstream: service.url, ledger: ledgerAccess(fixture.ledger), rules: [PASS_RULE] })
    await proxy.ready()
    console.log(`compressed by ${service.name}`)
  })
  afterAll(async () => {
    await proxy?.stop()
    await service?.stop()
  })

  test.each(['cars.json', 'budgets.json', 'stocks.csv', 'unemployment.tsv', 'flights-3m.csv'])(
    'curl --compressed gets %s as it is, through less on the wire',
    async (name) => {
      const file = await readFile(path.join(service.files, name))
      const url = `${proxy.external}/data/${name}`
      const plain = await curl([url])
      expect(plain.body.equals(file)).toBe(!isObject(file))
      const compressed = await curl(['--compressed', url])
      expect(compressed.head).toMatch(/^content-encoding: gzip\r$/im)
      expect(compressed.head).toMatch(/^vary: accept-encoding\r$/im)
      if (isObject(file)) expect(JSON.parse(compressed.body.toString())).toMatchObject(JSON.parse(file.toString()))
      else expect(compressed.body.equals(file)).toBe(true)
      expect(compressed.wire).toBeLessThan(plain.wire / 2)
    },
    120_000,
  )

  test('a condition on what came compressed is confirmed, for curl and for undici', async () => {
    const url = `${proxy.external}/data/stocks.csv`
    const first = await curl(['--compressed', url])
    const tag = /^etag: (.+)\r$/im.exec(first.head)?.[1] ?? ''
    const again = await curl(['--compressed', '--header', `If-None-Match: ${tag}`, url])
    expect(again.head).toMatch(/^HTTP\/1.1 304 /)
    const headers = { 'accept-encoding': 'gzip', 'if-none-match': tag }
    expect((await undici.request(url, { headers })).statusCode).toBe(304)
  })

  test('undici decodes what it gets', async () => {
    const file = await readFile(path.join(service.files, 'stocks.csv'))
    const answer = await undici.fetch(`${proxy.external}/data/stocks.csv`)
    expect(answer.headers.get('content-encoding')).toBe('gzip')
    expect(Buffer.from(await answer.arrayBuffer()).equals(file)).toBe(true)
    const raw = await undici.request(`${proxy.external}/data/stocks.csv`, {
      headers: { 'accept-encoding': 'br, *;q=0' },
    })
    expect(raw.headers['content-encoding']).toBe('br')
    expect(brotliDecompressSync(Buffer.from(await raw.body.arrayBuffer())).equals(file)).toBe(true)
  })
})

test('under strict audit nothing of it leaves before its event is on disk, and all of it after', async () => {
  const stack = await startProxyStack({
    upstream: fixture.upstream.url,
    ledger: ledgerAccess(fixture.ledger),
    rules: [PASS_RULE],
    env: { SIGNET_AUDIT: 'strict' },
  })
  try {
    await stack.ready()
    for (const content of [TABLE, ROWS, NOISE]) {
      answerWith(gzipSync(content))
      for (const coding of ['gzip', 'identity']) {
        const answer = await exchange(`${stack.external}/strict`, { headers: { 'accept-encoding': coding } })
        expect(answer.complete).toBe(true)
        expect(answer.headers['content-encoding']).toBe(coding === 'gzip' ? 'gzip' : undefined)
        expect((coding === 'gzip' ? gunzipSync(answer.body) : answer.body).equals(content)).toBe(true)
      }
    }
    await until('nothing held', async () => (await stack.sample('signet_buffered_bytes')) === 0)
  } finally {
    await stack.stop()
  }
})

test('switched off, the service is asked for identity and answers leave plain', async () => {
  const stack = await startProxyStack({
    upstream: fixture.upstream.url,
    ledger: ledgerAccess(fixture.ledger),
    rules: [PASS_RULE],
    env: { SIGNET_COMPRESSION: 'off' },
  })
  try {
    await stack.ready()
    answerWith(gzipSync('a,b\n1,2\n'))
    const answer = await exchange(`${stack.external}/off`, { headers: { 'accept-encoding': 'gzip' } })
    expect(fixture.upstream.seen.at(-1)?.headers['accept-encoding']).toBe('identity')
    expect(answer.headers['content-encoding']).toBeUndefined()
    expect(answer.body.toString()).toBe('a,b\n1,2\n')
  } finally {
    await stack.stop()
  }
})

async function curl(args: string[]): Promise<{ head: string; body: Buffer; wire: number }> {
  const dir = await mkdtemp(path.join(tmpdir(), 'signet-curl-'))
  try {
    const files = { head: path.join(dir, 'head'), body: path.join(dir, 'body') }
    const all = ['--silent', '--show-error', '--noproxy', '*', '--max-time', '60', '--dump-header', files.head]
    const child = spawn('curl', [...all, '--output', files.body, '--write-out', '%{size_download}', ...args])
    const [wire] = await Promise.all([text(child.stdout), once(child, 'close')])
    expect(child.exitCode).toBe(0)
    const body = await readFile(files.body).catch(() => Buffer.alloc(0))
    return { head: await readFile(files.head, 'latin1'), body, wire: Number(wire) }
  } finally {
    await rm(dir, { recursive: true, force: true })
  }
}

/** `VmHWM` of the proxy, in bytes. */
async function peakMemory(): Promise<number> {
  const status = await readFile(`/proc/${fixture.stack.child.pid}/status`, 'utf8')
  return Number(/^VmHWM:\s+(\d+) kB$/m.exec(status)?.[1]) * 1024
}

function isObject(file: Buffer): boolean {
  return file[0] === 0x7b
}

/** So many MiB of nothing, in one piece, without holding them. */
function bomb(mebibytes: number): Promise<Buffer> {
  const nothing = Buffer.alloc(MIB)
  return buffer(Readable.from(Array.from({ length: mebibytes }, () => nothing)).pipe(createGzip({ level: 9 })))
}

/** Not compressible, the same each time. */
function noise(length: number): Buffer {
  const bytes = Buffer.alloc(length)
  let state = 1
  for (let i = 0; i < length; i++) {
    state = (Math.imul(state, 1_103_515_245) + 12_345) & 0x7fffffff
    bytes[i] = state >> 16
  }
  return bytes
}
