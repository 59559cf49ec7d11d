import { readFileSync } from 'node:fs'
import path from 'node:path'
import fastify from 'fastify'
import { afterEach, describe, expect, test } from 'vitest'
import type { AuditEvent } from '#core/audit/event.ts'
import { checkAuditEvent } from '#core/audit/validate.ts'
import { SignetError } from '#core/error/signet-error.ts'
import type { ClientEvent } from './client-event.ts'
import { ClientAuditLogger, type ClientLoggerOptions, type Page } from './client-logger.ts'
import { auditCollector } from './collector.ts'

const DRAFT = { type: 'export.clicked', action: 'export', resource: '/reports/q3' }
const loggers: ClientAuditLogger[] = []
afterEach(() => {
  for (const logger of loggers.splice(0)) logger.close()
})

/** A logger whose requests are answered one after the other as told, the last for ever. */
function started(statuses: (number | null)[], options: Partial<ClientLoggerOptions> = {}) {
  const batches: ClientEvent[][] = []
  const lost: [string, number][] = []
  const logger = new ClientAuditLogger({
    url: 'https://app.test/signet/audit',
    gatherMs: 0,
    page: null,
    backoff: { baseMs: 1, maxMs: 4, random: () => 0.5 },
    onDropped: (reason, count) => lost.push([reason, count]),
    fetch: async (input, init) => {
      const status = statuses[Math.min(batches.length, statuses.length - 1)]
      batches.push(((await new Request(input, init).json()) as { events: ClientEvent[] }).events)
      if (status === null || status === undefined) throw new TypeError('fetch failed')
      return new Response(status === 204 ? null : 'x', { status })
    },
    ...options,
  })
  loggers.push(logger)
  return { logger, batches, lost }
}

describe('ClientAuditLogger', () => {
  test('sends what waits in order, in batches within their limits', async () => {
    const { logger, batches } = started([200])
    for (let at = 0; at < 250; at += 1) logger.log({ ...DRAFT, context: { at, pad: 'é'.repeat(200) } })
    expect(await logger.flush()).toBe(true)
    expect(batches.flat().map(({ context }) => context?.['at'])).toEqual(Array.from({ length: 250 }, (_, at) => at))
    for (const batch of batches) {
      expect(batch.length).toBeLessThanOrEqual(100)
      expect(Buffer.byteLength(JSON.stringify({ events: batch }))).toBeLessThanOrEqual(60_000)
    }
    expect(batches.length).toBeGreaterThan(2)
  })

  test.each([{ statuses: [null, 503, 429, 401, 200] }, { statuses: [500, 204] }])(
    'repeats the same events after $statuses',
    async ({ statuses }) => {
      const { logger, batches, lost } = started(statuses)
      logger.log(DRAFT)
      expect(await logger.flush()).toBe(true)
      expect(batches).toHaveLength(statuses.length)
      expect(new Set(batches.map((batch) => JSON.stringify(batch))).size).toBe(1)
      expect(lost).toEqual([])
    },
  )

  test('what is refused for good is lost, said so, and holds nothing back', async () => {
    const { logger, lost, batches } = started([400, 200])
    logger.log(DRAFT)
    await logger.flush()
    logger.log(DRAFT)
    expect(await logger.flush()).toBe(true)
    expect(batches).toHaveLength(2)
    expect(lost).toEqual([['refused', 1]])
  })

  test('a full buffer takes no more, until there is room', async () => {
    let free = (): void => {}
    const held = new Promise<void>((resolve) => (free = resolve))
    const { logger, lost } = started([200], {
      capacity: 2,
      fetch: async () => {
        await held
        return new Response()
      },
    })
    expect([logger.log(DRAFT), logger.log(DRAFT), logger.log(DRAFT)]).toEqual([true, true, false])
    expect(lost).toEqual([['full', 1]])
    expect(logger.waiting).toBe(2)
    let hasRoom = false
    const room = logger.room().then(() => (hasRoom = true))
    await Promise.resolve()
    expect(hasRoom).toBe(false)
    free()
    await room
    expect(logger.log(DRAFT)).toBe(true)
  })

  test.each([
    { name: 'too large', context: { pad: 'x'.repeat(40_000) } },
    { name: 'no JSON', context: { big: 1n } },
  ])('an event that is $name is not taken, and throws nothing', ({ context }) => {
    const { logger, lost } = started([200])
    expect(logger.log({ ...DRAFT, context })).toBe(false)
    expect(lost).toEqual([['too_large', 1]])
  })

  test('flush gives up in time', async () => {
    const { logger } = started([503])
    logger.log(DRAFT)
    expect(await logger.flush(30)).toBe(false)
    expect(logger.waiting).toBe(1)
  })
})

test('the client needs nothing that a browser has not', () => {
  const own = ['client-logger.ts', 'client-event.ts', 'backoff.ts']
  const imported = own.flatMap((file) => {
    const text = readFileSync(path.join(import.meta.dirname, file), 'utf8')
    return [...text.matchAll(/from '([^']+)'/g)].map(([, name]) => name)
  })
  expect(imported.length).toBeGreaterThan(0)
  expect(imported.filter((name) => !own.some((file) => name === `./${file}`))).toEqual([])
})

describe('when the page goes', () => {
  function pageOf(taken: number) {
    const listeners = new Map<string, () => void>()
    const beacons: Blob[] = []
    const target = {
      addEventListener: (name: string, listener: () => void) => void listeners.set(name, listener),
      removeEventListener: (name: string) => void listeners.delete(name),
    }
    const navigator = {
      sendBeacon(this: unknown, _url: string, body: Blob) {
        // As browsers have it: «Illegal invocation» without its navigator.
        if (this !== navigator) throw new TypeError('Illegal invocation')
        if (beacons.length >= taken) return false
        beacons.push(body)
        return true
      },
    }
    const document = { ...target, visibilityState: 'visible' }
    const page: Page = { ...target, document, navigator }
    return { page, beacons, document, fire: (name: string) => listeners.get(name)?.(), listeners }
  }

  test.each(['pagehide', 'visibilitychange'])('all that waits goes as beacons on %s', async (name) => {
    const { page, beacons, document, fire } = pageOf(9)
    const { logger } = started([200], { page, gatherMs: 60_000 })
    for (let at = 0; at < 150; at += 1) logger.log({ ...DRAFT, context: { at } })
    fire('visibilitychange')
    expect(beacons).toEqual([])
    document.visibilityState = 'hidden'
    fire(name)
    const bodies = await Promise.all(beacons.map((body) => body.text()))
    const sent = bodies.flatMap((body) => (JSON.parse(body) as { events: ClientEvent[] }).events)
    expect(sent.map(({ context }) => context?.['at'])).toEqual(Array.from({ length: 150 }, (_, at) => at))
    expect(beacons.every(({ size, type }) => size <= 60_000 && type === 'application/json')).toBe(true)
    expect(logger.waiting).toBe(0)
  })

  test('what the browser does not take stays', () => {
    const { page, fire } = pageOf(1)
    const { logger } = started([200], { page, gatherMs: 60_000 })
    for (let at = 0; at < 150; at += 1) logger.log(DRAFT)
    fire('pagehide')
    expect(logger.waiting).toBe(50)
  })

  test('close leaves no listeners', () => {
    const { page, listeners } = pageOf(1)
    const { logger } = started([200], { page })
    expect(listeners.size).toBe(2)
    logger.close()
    expect(listeners.size).toBe(0)
  })
})

describe('auditCollector', () => {
  async function collector(record: (event: AuditEvent) => Promise<void>) {
    const app = fastify()
    await app.register(auditCollector, {
      identify: async ({ headers }) =>
        headers['x-user'] === undefined ? null : { actor: String(headers['x-user']), tenant: 'acme' },
      record,
    })
    return app
  }
  const event = (change: Record<string, unknown> = {}) => ({
    event_id: '01890a5d-ac96-774b-bcce-b302099a8057',
    event_type: 'client.export.clicked',
    timestamp_utc: '2026-11-23T09:30:00.123Z',
    trace_id: '4bf92f3577b34da6a3ce929d0e0e4736',
    request_id: 'r1',
    action: 'export',
    resource: '/reports/q3',
    outcome: 'success',
    latency_ms: 3,
    ...change,
  })
  const post = (
    app: Awaited<ReturnType<typeof collector>>,
    payload: object,
    headers: Record<string, string> = { 'x-user': 'jane' },
  ) => app.inject({ method: 'POST', url: '/signet/audit', headers, payload })

  test('records what a real logger sends over HTTP, as of who is signed in, the same when it comes again', async () => {
    const seen: AuditEvent[] = []
    const app = await collector(async (one) => void seen.push(checkAuditEvent(one)))
    const url = `${await app.listen({ port: 0, host: '127.0.0.1' })}/signet/audit`
    const logger = new ClientAuditLogger({ url, gatherMs: 0, headers: () => ({ 'x-user': 'jane' }) })
    loggers.push(logger)
    logger.log({ ...DRAFT, trace: { traceId: event().trace_id, requestId: 'r1' } })
    expect(await logger.flush()).toBe(true)
    expect(seen).toMatchObject([
      { actor: 'jane', tenant: 'acme', event_type: 'client.export.clicked', trace_id: event().trace_id },
    ])
    await post(app, { events: [event()] })
    await post(app, { events: [event()] })
    expect(seen[1]).toEqual(seen[2])
    await app.close()
  })

  test.each<{ name: string; payload: object; headers?: Record<string, string>; want: number }>([
    { name: 'nobody', payload: { events: [event()] }, headers: {}, want: 401 },
    { name: 'an actor of its own', payload: { events: [event({ actor: 'the boss' })] }, want: 400 },
    { name: 'a tenant of its own', payload: { events: [event({ tenant: 'globex' })] }, want: 400 },
    { name: 'an event of the ledger', payload: { events: [event({ event_type: 'audit.gap' })] }, want: 400 },
    { name: 'too many', payload: { events: Array(101).fill(event()) }, want: 400 },
    { name: 'too much', payload: { events: [event({ context: { pad: 'x'.repeat(70_000) } })] }, want: 413 },
    {
      name: 'a form of another site',
      payload: { events: [] },
      headers: { 'x-user': 'jane', 'content-type': 'text/plain' },
      want: 415,
    },
  ])('$name: $want', async ({ payload, headers, want }) => {
    const seen: AuditEvent[] = []
    const app = await collector(async (one) => void seen.push(one))
    const answer = await post(
      app,
      headers?.['content-type'] === undefined ? payload : Buffer.from(JSON.stringify(payload)),
      headers,
    )
    expect(answer.statusCode).toBe(want)
    expect(seen).toEqual([])
    await app.close()
  })

  test.each([
    {
      name: 'what the ledger refuses',
      error: new SignetError('LEDGER_REFUSED', 'no', { details: { status: 409 } }),
      want: 200,
    },
    {
      name: 'a ledger that does not know the collector',
      error: new SignetError('LEDGER_REFUSED', 'no', { details: { status: 401 } }),
      want: 503,
    },
    { name: 'no ledger', error: new SignetError('LEDGER_UNREACHABLE', 'no'), want: 503 },
  ])('$name: $want', async ({ error, want }) => {
    const app = await collector(async () => Promise.reject(error))
    const answer = await post(app, { events: [event()] })
    expect(answer.statusCode).toBe(want)
    if (want === 200)
      expect(answer.json()).toEqual({ recorded: 0, refused: [{ event_id: event().event_id, code: 'LEDGER_REFUSED' }] })
    await app.close()
  })
})
