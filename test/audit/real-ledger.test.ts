import { randomUUID } from 'node:crypto'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { pino } from 'pino'
import { Registry } from 'prom-client'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { canonicalize } from '#core/canonical/jcs.ts'
import { indexKeyring, parseKeyring } from '#core/keyring/keyring.ts'
import { openJournal } from '#proxy/audit/journal.ts'
import { createLedgerClient } from '#proxy/audit/ledger-client.ts'
import { startLedgerStack, type LedgerStack } from '#test/support/ledger.ts'

let stack: LedgerStack
let dir: string

beforeAll(async () => {
  dir = mkdtempSync(join(tmpdir(), 'signet-real-ledger-'))
  stack = await startLedgerStack()
})

afterAll(async () => {
  await stack.stop()
  rmSync(dir, { recursive: true, force: true })
})

function event(id: string): string {
  return canonicalize({
    event_id: id,
    event_type: 'egress.decided',
    timestamp_utc: new Date().toISOString(),
    trace_id: randomUUID().replaceAll('-', ''),
    request_id: id,
    actor: 'anonymous',
    tenant: 'acme',
    stage: 'publish',
    action: 'GET',
    resource: '/größe',
    before: null,
    after: null,
    outcome: 'allowed',
    latency_ms: 0.25,
    stamp_hash: null,
  })
}

it('the journal and the real ledger agree, also when the ledger is killed in between', async () => {
  const [ledger] = stack.ledgers
  if (ledger === undefined) throw new Error('the stack has no ledger')
  const client = createLedgerClient({ url: ledger.url, token: stack.token('proxy') })
  const metrics = new Registry()
  const journal = await openJournal({
    spool: { dir },
    client,
    keyring: indexKeyring(parseKeyring(readFileSync(stack.keyringFile, 'utf8'))),
    logger: pino({ level: 'silent' }),
    metrics,
    clock: () => new Date(),
    newId: randomUUID,
    software: 'signet-proxy/test',
    sender: { backoff: { baseMs: 50, maxMs: 500 } },
  })
  const counted = async (name: string) => (await metrics.getSingleMetric(name)?.get())?.values[0]?.value ?? 0
  const ids = Array.from({ length: 1500 }, () => randomUUID())
  for (const id of ids.slice(0, 1000)) journal.append(event(id), null)
  await expect.poll(() => journal.sessionConfirmed, { timeout: 10_000 }).toBe(true)
  await expect.poll(() => counted('signet_audit_acked'), { timeout: 10_000 }).toBeGreaterThan(0)
  await ledger.kill()
  for (const id of ids.slice(1000)) journal.append(event(id), null)
  await stack.startLedger({ port: ledger.port })
  await expect.poll(() => counted('signet_audit_acked'), { timeout: 20_000 }).toBe(1500)
  expect(await counted('signet_audit_refused')).toBe(0)
  expect(journal.consistent).toBe(true)
  await journal.close(5000)
  await client.close()
  const recorded = await recordedEvents(ledger.url)
  expect(recorded).toHaveLength(1500)
  expect(new Set(recorded)).toEqual(new Set(ids))
  expect(await getJson(`${ledger.url}/api/audit/logs?event_type=audit.session.closed`)).toMatchObject({
    items: [{ event: { context: { clean: true, last_spool_seq: 1500 } } }],
  })
})

async function getJson(url: string): Promise<unknown> {
  const response = await fetch(url, { headers: { authorization: `Bearer ${stack.token('auditor')}` } })
  expect(response.status).toBe(200)
  return response.json()
}

/** Event ids of our kind, all pages. */
async function recordedEvents(url: string): Promise<string[]> {
  const found: string[] = []
  for (let cursor: string | null = ''; cursor !== null;) {
    const query = `event_type=egress.decided&limit=1000${cursor === '' ? '' : `&cursor=${cursor}`}`
    const page = (await getJson(`${url}/api/audit/logs?${query}`)) as {
      items: { event: { event_id: string } }[]
      next_cursor: string | null
    }
    found.push(...page.items.map(({ event }) => event.event_id))
    cursor = page.next_cursor
  }
  return found
}
