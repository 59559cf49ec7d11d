import { execFileSync } from 'node:child_process'
import { mkdirSync, readdirSync, readFileSync, writeFileSync, rmSync } from 'node:fs'
import path from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { checkAuditEvent } from '#core/audit/validate.ts'
import { readFrame, type Frame } from '#proxy/audit/frame.ts'
import { parseSegmentName, SEGMENT_HEADER_BYTES } from '#proxy/audit/segment.ts'
import { exchange, type HttpAnswer } from '#test/support/http-exchange.ts'
import { PASS_RULE, startProxyFixture, until, type ProxyFixture } from '#test/support/proxy-fixture.ts'

const ASSETS = Array.from({ length: 100 }, (_, i) => `urn:asset:${i}@sha256:${String(i).padStart(64, '0')}`).join(',')

function stampHashOf(answer: HttpAnswer): string {
  return /^sha256:[0-9a-f]{64}/.exec(String(answer.headers['compliance-stamp']))?.[0] as string
}

/** Lines in the spool folder, read as they are on disk. */
function spooledLines(dir: string): string[] {
  const lines: string[] = []
  for (const name of readdirSync(dir).filter((file) => parseSegmentName(file) !== null)) {
    const bytes = readFileSync(path.join(dir, name))
    let frame: Frame | 'partial' | 'bad'
    for (let at = SEGMENT_HEADER_BYTES; typeof (frame = readFrame(bytes, at)) === 'object'; at = frame.end) {
      lines.push(bytes.toString('utf8', frame.lineStart, frame.end))
    }
  }
  return lines
}

function answerPlainly(fixture: ProxyFixture, headers: Record<string, string> = {}): void {
  fixture.upstream.answer = (_request, response) =>
    response.writeHead(200, { 'content-type': 'application/json', ...headers }).end('{"a":1}')
}

describe('a ledger that is down', () => {
  let fixture: ProxyFixture
  beforeAll(async () => {
    fixture = await startProxyFixture()
    answerPlainly(fixture)
  })
  afterAll(() => fixture.stop())

  test('answers keep flowing, and their events arrive when it is back, each once', async () => {
    await fixture.ledger.stop()
    const answers = await Promise.all(Array.from({ length: 50 }, () => exchange(`${fixture.stack.external}/down`)))
    expect(answers.every(({ status }) => status === 200)).toBe(true)
    expect(await fixture.stack.sample('signet_audit_pending_events')).toBeGreaterThanOrEqual(50)
    // The session was confirmed before: nothing changes for the platform.
    await fixture.stack.ready()
    const hashes = answers.map(stampHashOf)
    await fixture.ledger.restart()
    await until(
      'the spool to drain',
      async () => (await fixture.stack.sample('signet_audit_pending_events')) === 0,
      20_000,
    )
    const recorded = fixture.ledger.recorded.map(
      ({ line }) => checkAuditEvent((JSON.parse(line) as { event: unknown }).event).stamp_hash,
    )
    expect(hashes.every((hash) => recorded.filter((found) => found === hash).length === 1)).toBe(true)
  })

  test.each([
    { name: 'answers 500', trouble: { kind: 'status', status: 500 } },
    { name: 'breaks off after it has recorded', trouble: { kind: 'fail-after' } },
    { name: 'answers nonsense', trouble: { kind: 'garbage', body: '{' } },
    { name: 'resets', trouble: { kind: 'reset' } },
  ] as const)('one that $name loses and doubles nothing', async ({ trouble }) => {
    fixture.ledger.troubles.ingest.push({ ...trouble })
    const answer = await exchange(`${fixture.stack.external}/trouble`)
    expect(answer.status).toBe(200)
    await until(
      'the event',
      () => fixture.ledger.recorded.some(({ line }) => line.includes(stampHashOf(answer))),
      20_000,
    )
    await until(
      'the spool to drain',
      async () => (await fixture.stack.sample('signet_audit_pending_events')) === 0,
      20_000,
    )
    expect(fixture.ledger.recorded.filter(({ line }) => line.includes(stampHashOf(answer)))).toHaveLength(1)
  })

  test('at start: not ready until the session is confirmed, though what is asked is answered', async () => {
    await fixture.stack.kill()
    await fixture.ledger.stop()
    fixture.stack = await fixture.stack.restart()
    const readiness = await fetch(`${fixture.stack.admin}/readyz`)
    expect(readiness.status).toBe(503)
    expect(await readiness.text()).toContain('session')
    const answer = await exchange(`${fixture.stack.external}/early`)
    expect(answer.status).toBe(200)
    await fixture.ledger.restart()
    await fixture.stack.ready(20_000)
    await until(
      'the event',
      () => fixture.ledger.recorded.some(({ line }) => line.includes(stampHashOf(answer))),
      20_000,
    )
  })
})

describe('a spool that is full', () => {
  let fixture: ProxyFixture
  beforeAll(async () => {
    fixture = await startProxyFixture({ rules: [PASS_RULE], env: { SIGNET_SPOOL_MAX_BYTES: '1048576' } })
  })
  afterAll(() => fixture.stop())

  test('nothing leaves unrecorded: 503, not ready; and it recovers by itself', async () => {
    answerPlainly(fixture, { 'signet-lineage-source-assets': ASSETS })
    await fixture.ledger.stop()
    let refused: HttpAnswer | null = null
    let passed = 0
    for (let i = 0; i < 2_000 && refused === null; i += 1) {
      const answer = await exchange(`${fixture.stack.external}/fill`)
      if (answer.status === 200) passed += 1
      else refused = answer
    }
    expect(refused).toMatchObject({
      status: 503,
      headers: { 'content-type': 'application/problem+json', 'retry-after': expect.stringMatching(/^\d+$/) as unknown },
    })
    expect(JSON.parse((refused as HttpAnswer).body.toString())).toMatchObject({ code: 'SPOOL_UNAVAILABLE' })
    expect((refused as HttpAnswer).body.toString()).not.toContain('"a":1')
    expect((refused as HttpAnswer).headers['compliance-stamp']).toBeUndefined()
    expect(passed).toBeGreaterThan(10)
    expect(await fixture.stack.sample('signet_spool_refusals_total')).toBeGreaterThan(0)
    const readiness = await fetch(`${fixture.stack.admin}/readyz`)
    expect(readiness.status).toBe(503)
    expect(await readiness.text()).toContain('spool')

    // Under shadow nothing changes, not even now.
    await fixture.stack.setPolicyData({ version: 1, modes: { tenants: { acme: { mode: 'shadow' } } } })
    await until('shadow', async () => (await exchange(`${fixture.stack.external}/shadow`)).status === 200)
    // Its events are smaller, so that some may still find room.
    await until('an event that finds no room', async () => {
      expect((await exchange(`${fixture.stack.external}/shadow`)).status).toBe(200)
      return (await fixture.stack.sample('signet_shadow_unaudited_total{tenant="acme"}')) > 0
    })
    await fixture.stack.setPolicyData({ version: 1 })
    await until('enforce', async () => (await exchange(`${fixture.stack.external}/fill-again`)).status === 503)

    // A stream cannot begin, either.
    fixture.upstream.answer = (_request, response) =>
      response.writeHead(200, { 'content-type': 'text/plain' }).end(Buffer.alloc(2_000_000))
    expect((await exchange(`${fixture.stack.external}/stream`)).status).toBe(503)

    answerPlainly(fixture)
    await fixture.ledger.restart()
    await fixture.stack.ready(20_000)
    expect((await exchange(`${fixture.stack.external}/after`)).status).toBe(200)
    await until(
      'the spool to drain',
      async () => (await fixture.stack.sample('signet_audit_pending_events')) === 0,
      20_000,
    )
    const stamps = fixture.ledger.recorded.filter(
      ({ line }) => line.includes('"/fill"') && line.includes('"action":"stamp"'),
    )
    expect(stamps).toHaveLength(passed)
    expect(fixture.stack.child.exitCode).toBeNull()
  })
})

/** Mounting needs rights that not every machine gives; where the checks count (CI) it has to be possible. */
function mountTmpfs(): string | null {
  const dir = path.join('/tmp', `signet-small-${process.pid}`)
  try {
    mkdirSync(dir, { recursive: true })
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=3m', 'tmpfs', dir], { stdio: 'ignore' })
    return dir
  } catch (cause) {
    rmSync(dir, { recursive: true, force: true })
    if (process.env['CI'] !== undefined)
      throw new Error('a small tmpfs cannot be mounted for the test of a full disk: run as root', { cause })
    return null
  }
}
const small = mountTmpfs()
afterAll(() => {
  if (small === null) return
  execFileSync('umount', [small])
  rmSync(small, { recursive: true, force: true })
})

describe.skipIf(small === null)('a disk that is full', () => {
  let fixture: ProxyFixture
  beforeAll(async () => {
    fixture = await startProxyFixture({ env: { SIGNET_SPOOL_DIR: path.join(small as string, 'spool') } })
    answerPlainly(fixture)
  })
  afterAll(() => fixture.stop())

  test('nothing leaves unrecorded; when there is room again, it goes on', async () => {
    expect((await exchange(`${fixture.stack.external}/before`)).status).toBe(200)
    await fixture.ledger.stop()
    const filler = path.join(small as string, 'filler')
    try {
      writeFileSync(filler, Buffer.alloc(4_000_000))
    } catch {
      // ENOSPC is what we want.
    }
    const answer = await until('a refusal', async () => {
      const found = await exchange(`${fixture.stack.external}/full`)
      return found.status !== 200 && found
    })
    expect(answer.status).toBe(503)
    expect(JSON.parse(answer.body.toString())).toMatchObject({ code: 'SPOOL_UNAVAILABLE' })
    rmSync(filler)
    await fixture.ledger.restart()
    await until('answers again', async () => (await exchange(`${fixture.stack.external}/again`)).status === 200, 20_000)
    await fixture.stack.ready(20_000)
    expect(fixture.stack.child.exitCode).toBeNull()
  })
})

describe('kill -9', () => {
  let fixture: ProxyFixture
  beforeAll(async () => {
    fixture = await startProxyFixture()
    answerPlainly(fixture)
  })
  afterAll(() => fixture.stop())

  test.each([1, 2, 3])('no answer that a client has is without its event (round %i)', async () => {
    await fixture.ledger.stop()
    const got: string[] = []
    const traffic = new AbortController()
    const clients = Array.from({ length: 8 }, async () => {
      while (!traffic.signal.aborted) {
        try {
          const answer = await exchange(`${fixture.stack.external}/k`)
          if (answer.status === 200 && answer.complete) got.push(stampHashOf(answer))
        } catch {
          return
        }
      }
    })
    await until('some traffic', () => got.length > 100)
    await fixture.stack.kill()
    traffic.abort()
    await Promise.all(clients)
    const lines = spooledLines(fixture.stack.spoolDir).join('\n')
    expect(got.filter((hash) => !lines.includes(hash))).toEqual([])

    await fixture.ledger.restart()
    fixture.stack = await fixture.stack.restart()
    await fixture.stack.ready(20_000)
    await until(
      'the spool to drain',
      async () => (await fixture.stack.sample('signet_audit_pending_events')) === 0,
      20_000,
    )
    const recorded = fixture.ledger.recorded.map(({ line }) => line)
    expect(
      got.filter((hash) => recorded.filter((line) => line.includes(`"stamp_hash":"${hash}"`)).length !== 1),
    ).toEqual([])
  })
})

describe('audit: strict', () => {
  let fixture: ProxyFixture
  beforeAll(async () => {
    fixture = await startProxyFixture({ env: { SIGNET_AUDIT: 'strict' } })
    answerPlainly(fixture)
  })
  afterAll(() => fixture.stop())

  test('answers leave once their event is on disk', async () => {
    const answers = await Promise.all(Array.from({ length: 20 }, () => exchange(`${fixture.stack.external}/strict`)))
    expect(answers.every(({ status }) => status === 200)).toBe(true)
    const lines =
      spooledLines(fixture.stack.spoolDir).join('\n') + fixture.ledger.recorded.map(({ line }) => line).join('\n')
    for (const answer of answers) expect(lines).toContain(stampHashOf(answer))
  })
})

describe('strict audit', () => {
  test('holds streams, too, until their event is on disk, and loses none of their bytes', async () => {
    const fixture = await startProxyFixture({ env: { SIGNET_AUDIT: 'strict', SIGNET_BUFFER_BYTES: '1024' } })
    try {
      const body = 'x'.repeat(300_000)
      fixture.upstream.answer = (_request, response) => {
        response.writeHead(200, { 'content-type': 'image/png' })
        for (let at = 0; at < body.length; at += 10_000) response.write(body.slice(at, at + 10_000))
        response.end()
      }
      const answers = await Promise.all(
        Array.from({ length: 20 }, () => exchange(`${fixture.stack.external}/stream`, { headers: { TE: 'trailers' } })),
      )
      for (const answer of answers) {
        expect(answer.status).toBe(200)
        expect(answer.body.toString() === body).toBe(true)
      }
      expect(await fixture.stack.sample('stamps_issued_total{tenant="acme"}')).toBe(20)
      await until('the budget', async () => (await fixture.stack.sample('signet_buffered_bytes')) === 0)
    } finally {
      await fixture.stop()
    }
  })
})

test('a decoded body counts against what may be held', async () => {
  const { gzipSync } = await import('node:zlib')
  const fixture = await startProxyFixture({
    env: { SIGNET_BUFFER_TOTAL_BYTES: '2500000', SIGNET_BUFFER_BYTES: '1048576' },
  })
  try {
    const bomb = gzipSync(Buffer.alloc(1_048_000, 0x61))
    fixture.upstream.answer = (_request, response) =>
      response.writeHead(200, { 'content-type': 'image/png', 'content-encoding': 'gzip' }).end(bomb)
    const answers = await Promise.all(Array.from({ length: 6 }, () => exchange(`${fixture.stack.external}/bomb`)))
    expect(new Set(answers.map(({ status }) => status))).toEqual(new Set([200, 503]))
    await until('the budget', async () => (await fixture.stack.sample('signet_buffered_bytes')) === 0)
  } finally {
    await fixture.stop()
  }
})
