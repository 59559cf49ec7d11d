import { createHash, randomBytes, randomUUID } from 'node:crypto'
import { canonicalize } from '#core/canonical/jcs.ts'
import type { AuditEvent } from '#core/audit/event.ts'
import type { IngestAck, IngestItem } from '#core/audit/wire.ts'
import type { Stamp } from '#core/stamp/schema.ts'

/** Builds what a producer would send, in exact bytes. */
export function buildEvent(overrides: Partial<AuditEvent> = {}): AuditEvent {
  return {
    event_id: randomUUID(),
    event_type: 'egress.decided',
    timestamp_utc: new Date().toISOString(),
    trace_id: randomBytes(16).toString('hex'),
    request_id: randomUUID(),
    actor: 'user:alice',
    tenant: 'claimed-by-the-producer',
    stage: 'publish',
    action: 'GET',
    resource: '/reports/7',
    before: null,
    after: null,
    outcome: 'allowed',
    latency_ms: 1.5,
    stamp_hash: null,
    ...overrides,
  }
}

export function lineOf(item: IngestItem): string {
  return canonicalize(item)
}

/** Lines of a session, numbered from `first`. */
export function buildLines(
  session: string,
  first: number,
  count: number,
  overrides: Partial<AuditEvent> = {},
): string[] {
  return Array.from({ length: count }, (_, index) =>
    lineOf({ session, spool_seq: first + index, event: buildEvent(overrides) }),
  )
}

export function digestOf(line: string): string {
  return `sha256:${createHash('sha256').update(line).digest('hex')}`
}

/** A client of one ledger with one token. `url` may be changed when the ledger has moved. */
export function createClient(url: string, token: string) {
  const headers = { authorization: `Bearer ${token}` }
  const client = {
    url,
    headers,
    post: (path: string, body: string | Uint8Array<ArrayBuffer>, type = 'application/json') =>
      fetch(client.url + path, { method: 'POST', body, headers: { ...headers, 'content-type': type } }),
    ingest: (lines: readonly string[]) => client.post('/api/audit/ingest', lines.join('\n'), 'application/x-ndjson'),
    /** @throws unless the answer is 200 */
    async append(lines: readonly string[]): Promise<IngestAck> {
      const response = await client.ingest(lines)
      const text = await response.text()
      if (response.status !== 200) throw new Error(`ingest: ${response.status} ${text}`)
      return JSON.parse(text) as IngestAck
    },
    open: (session: string) =>
      client.post(
        '/api/audit/sessions',
        JSON.stringify({ version: 1, session, started_at: new Date().toISOString(), software: 'signet-test/1' }),
      ),
    close: (session: string, last: number, clean = true) =>
      client.post(`/api/audit/sessions/${session}/close`, JSON.stringify({ version: 1, last_spool_seq: last, clean })),
    async get<T>(path: string): Promise<T> {
      const response = await fetch(client.url + path, { headers })
      const text = await response.text()
      if (response.status !== 200) throw new Error(`${path}: ${response.status} ${text}`)
      return JSON.parse(text) as T
    },
    /** Every item that a query matches, through all pages, newest first. */
    async all(query = ''): Promise<LogItem[]> {
      const items: LogItem[] = []
      for (let cursor: string | null = ''; cursor !== null;) {
        const page: { items: LogItem[]; next_cursor: string | null } = await client.get(
          `/api/audit/logs?limit=1000${query}${cursor === '' ? '' : `&cursor=${cursor}`}`,
        )
        items.push(...page.items)
        cursor = page.next_cursor
      }
      return items
    },
    verify: (query = '') => client.get<VerifyAnswer>(`/api/audit/verify${query}`),
  }
  return client
}

export type LogItem = {
  seq: number
  event: AuditEvent
  commitment: string
  hash: string
  producer_id: string
  session: string | null
  spool_seq: number | null
  stamp_hash: string | null
  fault?: string
}
export type VerifyAnswer = {
  ok: boolean
  checked: number
  head: { seq: number; hash: string }
  first_bad?: { seq: number; fault: string; detail: string }
}

/** A stamp of the right form for an event, with a MAC that no key made: the ledger keeps stamps, it does not check their MAC. */
export function buildStamp(of: { tenant: string; producerId: string; event: AuditEvent }): Stamp {
  return {
    stamp_version: 'v1',
    timestamp_utc: of.event.timestamp_utc,
    data_classification: 'internal',
    regulatory_compliance: ['NONE'],
    approval_status: 'approved',
    data_lineage: {
      producer_id: of.producerId,
      source_assets: [],
      transformations: [],
      request_id: of.event.request_id,
      trace_id: of.event.trace_id,
    },
    subject: {
      tenant: of.tenant,
      method: 'GET',
      target_digest: digestOf('/reports/7'),
      status: 200,
      media_type: 'application/json',
      channel: 'external',
    },
    policy: { bundle_revision: '1', decision_id: of.event.event_id },
    integrity: {
      alg: 'HMAC-SHA256',
      key_id: 'stamp-1',
      canonicalization: 'bytes',
      payload_digest: digestOf('{}'),
      payload_length: 2,
      mac: '0'.repeat(64),
    },
  }
}

export function stampHashOf(stamp: Stamp): string {
  return digestOf(canonicalize(stamp))
}
