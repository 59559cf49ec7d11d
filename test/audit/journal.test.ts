import { mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { randomUUID } from 'node:crypto'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { pino } from 'pino'
import { Registry } from 'prom-client'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { canonicalize } from '#core/canonical/jcs.ts'
import { openJournal, type AuditJournal, type JournalOptions } from '#proxy/audit/journal.ts'
import { createLedgerClient, type LedgerClient } from '#proxy/audit/ledger-client.ts'
import { startFakeLedger, type FakeLedger, type Trouble } from '#test/support/fake-ledger.ts'

let dir: string
let ledger: FakeLedger
let client: LedgerClient
let metrics: Registry
let logged: { level: number; msg: string; [name: string]: unknown }[]
let open: AuditJournal[]

beforeEach(async () => {
  dir = mkdtempSync(join(tmpdir(), 'signet-journal-'))
  ledger = await startFakeLedger()
  client = createLedgerClient({ url: ledger.url, token: ledger.token, timeoutMs: 400 })
  logged = []
  open = []
})

afterEach(async () => {
  for (const journal of open) await journal.close(0)
  await client.close()
  await ledger.stop()
  rmSync(dir, { recursive: true, force: true })
})

const alarms = (level: number) => logged.filter((entry) => entry.level >= level).map(({ msg }) => msg)

async function start(options: Partial<JournalOptions> = {}): Promise<AuditJournal> {
  metrics = new Registry()
  const journal = await openJournal({
    spool: { dir, segmentBytes: 16_384, maxBytes: 1_000_000 },
    client,
    keyring: ledger.keyring,
    logger: pino({ level: 'info' }, { write: (line: string) => void logged.push(JSON.parse(line)) }),
    metrics,
    clock: () => new Date(),
    newId: randomUUID,
    software: 'signet-proxy/test',
    sender: { lingerMs: 1, backoff: { baseMs: 5, maxMs: 40 } },
    ...options,
  })
  open.push(journal)
  return journal
}

let written = 0
function event(): { id: string; jcs: string } {
  written += 1
  const id = randomUUID()
  const jcs = canonicalize({
    event_id: id,
    event_type: 'egress.decided',
    timestamp_utc: '2026-11-23T09:30:00.123Z',
    trace_id: '4bf92f3577b34da6a3ce929d0e0e4736',
    request_id: `request-${written}`,
    actor: 'anonymous',
    tenant: 'acme',
    stage: 'publish',
    action: 'GET',
    resource: '/größe',
    before: null,
    after: null,
    outcome: 'allowed',
    latency_ms: 1.5,
    stamp_hash: null,
  })
  return { id, jcs }
}

function append(journal: AuditJournal, events: number): string[] {
  return Array.from({ length: events }, () => {
    const { id, jcs } = event()
    journal.append(jcs, null)
    return id
  })
}

async function value(name: string): Promise<number> {
  const metric = await metrics.getSingleMetric(name)?.get()
  return (metric?.values ?? []).reduce((sum, sample) => sum + sample.value, 0)
}

const recordedIds = () => ledger.recorded.map(({ eventId }) => eventId)
const recorded = (events: number) => expect.poll(() => ledger.recorded.length, { timeout: 5000 }).toBe(events)
const sessions = () => [...ledger.sessions].map(([id, { closed }]) => ({ id, closed }))

it('carries events in order, as RFC 8785 lines, and closes its session as clean', async () => {
  const journal = await start()
  const ids = append(journal, 1200)
  await recorded(1200)
  expect(recordedIds()).toEqual(ids)
  for (const { line, session, spoolSeq } of ledger.recorded) {
    expect(canonicalize(JSON.parse(line))).toBe(line)
    expect(session).toBe(sessions()[0]?.id)
    expect(ledger.recorded[spoolSeq - 1]?.line).toBe(line)
  }
  expect(journal).toMatchObject({ sessionConfirmed: true, consistent: true, writable: true })
  await expect.poll(() => value('signet_audit_acked')).toBe(1200)
  expect(await value('signet_audit_pending_events')).toBe(0)
  await journal.close(2000)
  expect(sessions()).toEqual([{ id: expect.any(String), closed: [{ last_spool_seq: 1200, clean: true }] }])
  expect(readdirSync(dir).filter((name) => name.endsWith('.spool'))).toEqual([])
  expect(() => journal.append(event().jcs, null)).toThrowError('closing')
  expect(Math.max(...ledger.batches)).toBeLessThanOrEqual(500)
})

it('sends the stamp with its event, in JCS order', async () => {
  const journal = await start()
  const stamp = '{"not":"checked here"}'
  ledger.refuse = () => null
  journal.append('{"event":1}', stamp)
  await expect.poll(() => value('signet_audit_refused')).toBe(1)
  const kept = JSON.parse(readFileSync(join(dir, 'refused.ndjson'), 'utf8')) as { line: string }
  expect(kept.line).toBe(`{"event":{"event":1},"session":"${sessions()[0]?.id}","spool_seq":1,"stamp":${stamp}}`)
})

it('works without a ledger, and catches up when there is one', async () => {
  await ledger.stop()
  const journal = await start()
  const ids = append(journal, 50)
  await journal.synced()
  await sleep(100)
  expect(journal).toMatchObject({ sessionConfirmed: false, writable: true })
  expect(await value('signet_audit_pending_events')).toBe(50)
  expect(await value('signet_audit_send_failures')).toBeGreaterThan(1)
  await ledger.restart()
  await recorded(50)
  expect(recordedIds()).toEqual(ids)
  expect(journal.sessionConfirmed).toBe(true)
  await expect.poll(() => value('signet_audit_oldest_seconds')).toBe(0)
})

it('shows the age of the oldest event while it waits', async () => {
  const journal = await start({ clock: () => new Date('2026-11-23T09:31:00.123Z') })
  ledger.troubles.ingest.push({ kind: 'hang' })
  append(journal, 3)
  await expect.poll(() => value('signet_audit_oldest_seconds')).toBe(60)
})

describe('one bad answer loses nothing and doubles nothing', () => {
  const cases: { name: string; trouble: Trouble; wantCode: string }[] = [
    { name: 'connection reset', trouble: { kind: 'reset' }, wantCode: 'LEDGER_UNREACHABLE' },
    { name: 'recorded, answer lost', trouble: { kind: 'fail-after' }, wantCode: 'LEDGER_UNREACHABLE' },
    { name: 'no answer', trouble: { kind: 'hang' }, wantCode: 'LEDGER_UNREACHABLE' },
    { name: '503', trouble: { kind: 'status', status: 503, code: 'LEDGER_BUSY' }, wantCode: 'LEDGER_UNREACHABLE' },
    { name: '429', trouble: { kind: 'status', status: 429 }, wantCode: 'LEDGER_UNREACHABLE' },
    { name: '302', trouble: { kind: 'status', status: 302 }, wantCode: 'LEDGER_UNREACHABLE' },
    { name: '401', trouble: { kind: 'status', status: 401, code: 'UNAUTHENTICATED' }, wantCode: 'LEDGER_REFUSED' },
    // Not from the ledger: some proxy between. Nothing may be given up on its word.
    { name: '400 without a code', trouble: { kind: 'status', status: 400 }, wantCode: 'LEDGER_REFUSED' },
    { name: 'not JSON', trouble: { kind: 'garbage', body: '<html>' }, wantCode: 'LEDGER_RESPONSE_INVALID' },
    { name: 'other JSON', trouble: { kind: 'garbage', body: '{"version":1}' }, wantCode: 'LEDGER_RESPONSE_INVALID' },
    { name: 'endless answer', trouble: { kind: 'huge', bytes: 5_000_000 }, wantCode: 'LEDGER_RESPONSE_INVALID' },
    {
      name: 'wrong signature',
      trouble: {
        kind: 'tamper',
        change: (answer) => ({ ...answer, acks: answer.acks.map((ack) => ({ ...ack, seq: 1 })) }),
      },
      wantCode: 'LEDGER_RESPONSE_INVALID',
    },
    {
      name: 'unknown key',
      trouble: { kind: 'tamper', change: (answer) => ({ ...answer, key_id: 'another' }) },
      wantCode: 'LEDGER_RESPONSE_INVALID',
    },
    {
      name: 'digest of other bytes',
      trouble: {
        kind: 'lie',
        change: (answer) => ({
          ...answer,
          acks: answer.acks.map((ack) => ({ ...ack, received_digest: `sha256:${'a'.repeat(64)}` })),
        }),
      },
      wantCode: 'LEDGER_RESPONSE_INVALID',
    },
    {
      name: 'another event id',
      trouble: {
        kind: 'lie',
        change: (answer) => ({ ...answer, acks: answer.acks.map((ack) => ({ ...ack, event_id: randomUUID() })) }),
      },
      wantCode: 'LEDGER_RESPONSE_INVALID',
    },
    {
      name: 'acknowledges what was not sent',
      trouble: {
        kind: 'lie',
        change: (answer) => ({ ...answer, acks: answer.acks.map((ack) => ({ ...ack, spool_seq: 9999 })) }),
      },
      wantCode: 'LEDGER_RESPONSE_INVALID',
    },
    {
      name: 'acknowledges twice',
      trouble: { kind: 'lie', change: (answer) => ({ ...answer, acks: [...answer.acks, ...answer.acks] }) },
      wantCode: 'LEDGER_RESPONSE_INVALID',
    },
    {
      name: 'acknowledges behind the head',
      trouble: {
        kind: 'lie',
        change: (answer) => ({ ...answer, acks: answer.acks.map((ack) => ({ ...ack, seq: ack.seq + 1000 })) }),
      },
      wantCode: 'LEDGER_RESPONSE_INVALID',
    },
    {
      name: 'refuses a line that was not sent',
      trouble: {
        kind: 'lie',
        change: (answer) => ({ ...answer, refused: [{ line: 999, code: 'AUDIT_EVENT_INVALID', detail: '' }] }),
      },
      wantCode: 'LEDGER_RESPONSE_INVALID',
    },
    {
      name: 'checkpoint of another tenant',
      trouble: {
        kind: 'lie',
        change: (answer) => ({ ...answer, checkpoint: { ...answer.checkpoint, tenant: 'other' } }),
      },
      wantCode: 'LEDGER_RESPONSE_INVALID',
    },
    {
      name: 'answers for nothing',
      trouble: { kind: 'lie', change: (answer) => ({ ...answer, acks: [] }) },
      wantCode: 'LEDGER_RESPONSE_INVALID',
    },
  ]
  it.each(cases)('$name', async ({ trouble, wantCode }) => {
    const journal = await start()
    await expect.poll(() => journal.sessionConfirmed).toBe(true)
    ledger.troubles.ingest.push(trouble)
    const ids = append(journal, 20)
    await recorded(20)
    await expect.poll(() => value('signet_audit_acked')).toBe(20)
    expect(recordedIds()).toEqual(ids)
    expect(await value('signet_audit_refused')).toBe(0)
    const failures = await metrics.getSingleMetric('signet_audit_send_failures')?.get()
    expect(failures?.values).toEqual([expect.objectContaining({ value: 1, labels: { code: wantCode } })])
    expect(journal.consistent).toBe(true)
  })
})

it('sends again only what an answer left open', async () => {
  const journal = await start()
  await expect.poll(() => journal.sessionConfirmed).toBe(true)
  ledger.troubles.ingest.push({ kind: 'lie', change: (answer) => ({ ...answer, acks: answer.acks.slice(0, 7) }) })
  const ids = append(journal, 10)
  await expect.poll(() => value('signet_audit_acked')).toBe(10)
  expect(ledger.batches).toEqual([10, 3])
  expect(recordedIds()).toEqual(ids)
})

it('keeps a refused event in a file, loudly, and goes on with those behind it', async () => {
  const journal = await start()
  const [first = '', bad = '', ...rest] = Array.from({ length: 6 }, () => {
    const { id, jcs } = event()
    return `${id} ${jcs}`
  })
  const badId = bad.slice(0, 36)
  ledger.refuse = (item) =>
    item.event.event_id === badId ? { code: 'EVENT_STAMP_MISMATCH', detail: 'the stamp is of another event' } : null
  for (const line of [first, bad, ...rest]) journal.append(line.slice(37), null)
  await recorded(5)
  expect(recordedIds()).toEqual([first, ...rest].map((line) => line.slice(0, 36)))
  await expect.poll(() => value('signet_audit_refused')).toBe(1)
  const kept = readFileSync(join(dir, 'refused.ndjson'), 'utf8')
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as unknown)
  expect(kept).toEqual([
    {
      code: 'EVENT_STAMP_MISMATCH',
      detail: 'the stamp is of another event',
      spool_seq: 2,
      line: expect.stringContaining(badId),
    },
  ])
  expect(alarms(50)).toEqual(['the ledger refused an audit event'])
  await journal.close(1000)
  expect(sessions()[0]?.closed).toEqual([{ last_spool_seq: 6, clean: true }])
})

it('stops at a full file of refused events rather than drop one, and goes on when it is moved away', async () => {
  writeFileSync(join(dir, 'refused.ndjson'), 'x'.repeat(900))
  const journal = await start({ deadLetterBytes: 1000 })
  await expect.poll(() => journal.sessionConfirmed).toBe(true)
  ledger.refuse = () => ({ code: 'AUDIT_EVENT_INVALID', detail: 'no' })
  append(journal, 1)
  await expect.poll(() => alarms(50).length).toBeGreaterThan(0)
  expect(await value('signet_audit_refused')).toBe(0)
  expect(await value('signet_audit_pending_events')).toBe(1)
  rmSync(join(dir, 'refused.ndjson'))
  await expect.poll(() => value('signet_audit_refused')).toBe(1)
})

it('halves a batch that the ledger finds too large', async () => {
  await ledger.stop()
  ledger = await startFakeLedger({ maxBatchItems: 3 })
  await client.close()
  client = createLedgerClient({ url: ledger.url, token: ledger.token, timeoutMs: 400 })
  const journal = await start({ sender: { lingerMs: 10, backoff: { baseMs: 5, maxMs: 40 } } })
  const ids = append(journal, 10)
  await recorded(10)
  expect(recordedIds()).toEqual(ids)
  expect(Math.max(...ledger.batches)).toBeLessThanOrEqual(3)
})

describe('sessions', () => {
  it('drains and closes what earlier runs left before its own events', async () => {
    await ledger.stop()
    const left: string[] = []
    for (let run = 0; run < 2; run += 1) {
      const journal = await start()
      left.push(...append(journal, 20))
      await journal.close(0)
    }
    await ledger.restart()
    const journal = await start()
    const own = append(journal, 5)
    await recorded(45)
    expect(recordedIds()).toEqual([...left, ...own])
    await journal.close(1000)
    const closes = [...ledger.sessions.values()].map(({ closed }) => closed)
    expect(closes).toHaveLength(3)
    expect(closes).toContainEqual([{ last_spool_seq: 5, clean: true }])
    expect(closes.filter(([close]) => close?.clean === false && close.last_spool_seq === 20)).toHaveLength(2)
  })

  it('leaves a session to its successor where the time to close it was not enough', async () => {
    const first = await start()
    append(first, 3)
    await recorded(3)
    await ledger.stop()
    const ids = append(first, 2)
    const before = performance.now()
    await first.close(150)
    expect(performance.now() - before).toBeLessThan(1500)
    await ledger.restart()
    const second = await start()
    await recorded(5)
    expect(recordedIds().slice(3)).toEqual(ids)
    await expect.poll(() => sessions()[0]?.closed).toEqual([{ last_spool_seq: 5, clean: false }])
    expect(second.sessionConfirmed).toBe(true)
  })

  it('does not stop at a session of another producer', async () => {
    await ledger.stop()
    const first = await start()
    append(first, 2)
    await first.close(0)
    await ledger.restart()
    const forbidden = { kind: 'status', status: 403, code: 'SESSION_FORBIDDEN' } as const
    // The successor's own session opens; the one that it finds does not, and cannot be closed either.
    ledger.troubles.sessions.push({ kind: 'fine' }, forbidden)
    ledger.troubles.close.push(forbidden)
    ledger.refuse = (item) =>
      item.session === sessions()[0]?.id ? null : { code: 'SESSION_FORBIDDEN', detail: 'not yours' }
    const second = await start()
    const own = append(second, 1)
    await recorded(1)
    expect(recordedIds()).toEqual(own)
    expect(await value('signet_audit_refused')).toBe(2)
    expect(readFileSync(join(dir, 'refused.ndjson'), 'utf8').trim().split('\n')).toHaveLength(2)
  })

  it('opens again what the ledger answered too late', async () => {
    ledger.troubles.sessions.push({ kind: 'reset' }, { kind: 'hang' }, { kind: 'garbage', body: '{}' })
    const journal = await start()
    append(journal, 1)
    await recorded(1)
    expect(journal.sessionConfirmed).toBe(true)
  })
})

describe('the proxy as a witness', () => {
  it('notices a ledger that was set back, keeps both states, and goes on sending', async () => {
    const journal = await start()
    append(journal, 10)
    await expect.poll(() => value('signet_audit_acked')).toBe(10)
    ledger.setBack(5)
    const ids = append(journal, 1)
    await expect.poll(() => recordedIds().at(-1)).toBe(ids[0])
    await expect.poll(() => value('signet_audit_ledger_inconsistent')).toBe(1)
    expect(journal.consistent).toBe(false)
    expect(journal.writable).toBe(true)
    const evidence = JSON.parse(readFileSync(join(dir, 'contradictions.ndjson'), 'utf8')) as Record<string, unknown>
    expect(evidence).toMatchObject({
      kind: 'set-back',
      before: { seq: 10 },
      after: { seq: 6 },
      signed_before: { checkpoint: { seq: 10 } },
      signed_after: { checkpoint: { seq: 6 } },
    })
    expect(alarms(60)).toHaveLength(1)
    append(journal, 1)
    await expect.poll(() => value('signet_audit_acked')).toBe(12)
    expect(await value('signet_audit_ledger_inconsistent')).toBe(1)
  })

  it('notices a fork: the same number with another hash', async () => {
    const journal = await start()
    append(journal, 4)
    await expect.poll(() => value('signet_audit_acked')).toBe(4)
    ledger.setBack(1)
    append(journal, 1)
    await expect.poll(() => value('signet_audit_ledger_inconsistent')).toBe(1)
    expect(readFileSync(join(dir, 'contradictions.ndjson'), 'utf8')).toContain('"kind":"forked"')
  })

  it('remembers over a restart what the ledger signed', async () => {
    const first = await start()
    append(first, 10)
    await expect.poll(() => value('signet_audit_acked')).toBe(10)
    await first.close(1000)
    ledger.setBack(3)
    const second = await start()
    await expect.poll(() => second.consistent).toBe(false)
    expect(second.sessionConfirmed).toBe(true)
  })
})
