import type { Client } from '#runtime/postgres/transaction.ts'
import { readItem, type JourneyItem } from './journey.ts'
import type { Mark } from './keys.ts'
import { ledgerTraceId } from './ledger-event.ts'
import { readGaps, readTrace } from './store/journey.ts'

/** Events that a journey shows, fewer where they are big (`readTrace`). */
const MAX_EVENTS = 1_000
const MAX_GAPS = 100

/** The events of a trace, and the gaps on record of the sessions that they came in. `more`: there are more events than are shown. */
export async function readJourney(
  client: Client,
  { tenant, traceId, mark }: { readonly tenant: string; readonly traceId: string; readonly mark: Mark },
): Promise<{ items: JourneyItem[]; more: boolean; gaps: JourneyItem[] }> {
  const { rows, more } = await readTrace(client, tenant, traceId, MAX_EVENTS)
  const items = rows.map(readItem)
  const traces = sessionsOf(items).map(({ session, producerId }) =>
    ledgerTraceId(mark, { tenant, producerId }, session),
  )
  const found = traces.length === 0 ? [] : await readGaps(client, tenant, traces, MAX_GAPS)
  return { items, more, gaps: found.map(readItem) }
}

/** The sessions that the events came in, each once. */
function sessionsOf(items: readonly JourneyItem[]): { session: string; producerId: string }[] {
  const sessions = new Map<string, { session: string; producerId: string }>()
  for (const item of items) {
    if (!('record' in item) || item.record.session === null) continue
    const { session, producer_id: producerId } = item.record
    sessions.set(`${producerId}\n${session}`, { session, producerId })
  }
  return [...sessions.values()]
}
