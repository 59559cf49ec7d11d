import { randomInt, randomUUID } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'
import { expect } from 'vitest'
import { Agent, fetch } from 'undici'
import type { IngestAck } from '#core/audit/wire.ts'
import type { LedgerStack } from '#test/support/ledger.ts'
import { buildEvent, buildLines, createClient, type LogItem } from '#test/support/producer.ts'

/** What a producer was told is durable: it may forget the event from then on. */
export type Acked = { readonly event_id: string; readonly seq: number; readonly commitment: string }

export type Load = {
  /** The resource of each of its events: tells them from those of others. */
  readonly resource: string
  /** Acknowledged so far, by the name of the identity. */
  readonly acked: ReadonlyMap<string, readonly Acked[]>
  /** Requests that broke off or were answered with 503 and were sent again. */
  broken(): number
  total(): number
  /** Each producer sends until what it has under way is acknowledged, then ends. */
  stop(): Promise<void>
}

export type LoadOptions = {
  /** Where the ledgers are at the moment: one is drawn for every try. */
  readonly urls: () => readonly string[]
  /** Identities with write scope; each has a producer of batches (as a proxy) and one of single events. */
  readonly names: readonly string[]
  readonly batch?: number
  /** Between an acknowledgement and what the same producer sends next. */
  readonly pauseMs?: number
  /** After this long a producer gives a request up and sends the same again. */
  readonly patienceMs?: number
}

const RETRY_MS = 30
const PAGE = 1_000

/** Producers that never stop: the same bytes again, to whichever ledger, until they are acknowledged. */
export function startLoad(stack: LedgerStack, options: LoadOptions): Load {
  const { urls, names, batch = 40, pauseMs = 15, patienceMs = 10_000 } = options
  const stopping = new AbortController()
  const agent = new Agent({ connections: 64, pipelining: 1 })
  const resource = `/load/${randomUUID()}`
  const acked = new Map<string, Acked[]>(names.map((name) => [name, []]))
  let broken = 0

  /** The body of a 2xx, or null: the outcome is then unknown, and the same is sent again. Any other answer is a fault of somebody. */
  async function attempt(name: string, path: string, body: string, type: string): Promise<string | null> {
    const all = urls()
    const url = all[randomInt(all.length)]
    const response = await fetch(`${url}${path}`, {
      method: 'POST',
      body,
      headers: { authorization: `Bearer ${stack.token(name)}`, 'content-type': type },
      dispatcher: agent,
      signal: AbortSignal.timeout(patienceMs),
    })
      .then(async (answer) => ({ status: answer.status, text: await answer.text() }))
      .catch(() => null)
    if (response !== null && response.status < 300) return response.text
    if (response !== null && response.status !== 503)
      throw new Error(`${path}: ${response.status} ${response.text.slice(0, 300)}`)
    broken++
    await sleep(RETRY_MS)
    return null
  }

  async function until(name: string, path: string, body: string, type: string): Promise<string> {
    for (;;) {
      const text = await attempt(name, path, body, type)
      if (text !== null) return text
    }
  }

  async function batches(name: string): Promise<void> {
    const session = randomUUID()
    for (let sent = 0; !stopping.signal.aborted; sent += batch) {
      const lines = buildLines(session, sent + 1, batch, { resource }).join('\n')
      const ack = JSON.parse(await until(name, '/api/audit/ingest', lines, 'application/x-ndjson')) as IngestAck
      expect(ack.refused).toEqual([])
      expect(ack.acks).toHaveLength(batch)
      acked.get(name)?.push(...ack.acks)
      await sleep(pauseMs)
    }
  }

  async function singles(name: string): Promise<void> {
    while (!stopping.signal.aborted) {
      const event = buildEvent({ resource })
      const answer = await until(name, '/api/audit/logs', JSON.stringify(event), 'application/json')
      const { ack } = JSON.parse(answer) as { ack: Acked }
      expect(ack).toMatchObject({ event_id: event.event_id })
      acked.get(name)?.push(ack)
      await sleep(pauseMs)
    }
  }

  const running = Promise.all(names.flatMap((name) => [batches(name), singles(name)]))
  running.catch(() => stopping.abort())
  return {
    resource,
    acked,
    broken: () => broken,
    total: () => [...acked.values()].reduce((sum, { length }) => sum + length, 0),
    async stop() {
      stopping.abort()
      await running
      await agent.close()
    },
  }
}

/** What is recorded, as far as it matters here: a long run records hundreds of thousands. */
type Recorded = Pick<LogItem, 'seq' | 'commitment'> & { readonly ours: boolean }

/**
 * Holds the ledger to what it acknowledged: every event once, at the number and with the commitment of its acknowledgement, the numbers
 * without a hole, nothing of a producer that it was not told of, no gap recorded, and everything derived anew from the bytes.
 * `readers`: an identity with read scope for each tenant. Gives the number of events.
 */
export async function reconcile(
  stack: LedgerStack,
  load: Pick<Load, 'acked' | 'resource'>,
  options: { readonly url: string; readonly readers: readonly string[] },
): Promise<number> {
  const found = new Map<string, Recorded>()
  let records = 0
  for (const reader of options.readers) {
    const auditor = createClient(options.url, stack.token(reader))
    let next: number | null = null
    for await (const { seq, commitment, event } of readAll(auditor)) {
      // Newest first.
      if (next !== null) expect(seq).toBe(next)
      next = seq - 1
      if (event.event_type === 'audit.gap') expect.fail(`link ${seq} is a gap: ${JSON.stringify(event.context)}`)
      found.set(event.event_id, { seq, commitment, ours: event.resource === load.resource })
      records++
    }
    expect(next ?? 0).toBe(0)
    expect(await auditor.verify()).toMatchObject({ ok: true })
  }
  expect(found.size).toBe(records)
  const acked = [...load.acked.values()].flat()
  expect(new Set(acked.map(({ event_id }) => event_id)).size).toBe(acked.length)
  const wrong = acked.filter(({ event_id, seq, commitment }) => {
    const item = found.get(event_id)
    return item?.ours !== true || item.seq !== seq || item.commitment !== commitment
  })
  expect(wrong).toEqual([])
  expect([...found.values()].filter(({ ours }) => ours)).toHaveLength(acked.length)
  return acked.length
}

async function* readAll(auditor: ReturnType<typeof createClient>): AsyncGenerator<LogItem> {
  for (let cursor: string | null = ''; cursor !== null;) {
    const from = cursor === '' ? '' : `&cursor=${cursor}`
    const page: { items: LogItem[]; next_cursor: string | null } = await auditor.get(
      `/api/audit/logs?limit=${PAGE}${from}`,
    )
    yield* page.items
    cursor = page.next_cursor
  }
}
