import type { AuditEvent } from '#core/audit/event.ts'
import { SignetError } from '#core/error/signet-error.ts'
import type { Batch, Entry, EventEntry, LogEntry, NoticeEntry, RefusedEntry } from '../entry.ts'
import type { Mark } from '../keys.ts'
import { noticed } from '../ledger-event.ts'
import type { ResidencyPolicy } from '../residency/policy.ts'
import type { Sequencer } from '../sequencer.ts'
import type { Sealer } from './sealer.ts'

export type SealingDeps = {
  /** Null: nothing is sealed (`SIGNET_LEDGER_SEALING=off`). */
  readonly sealer: Pick<Sealer, 'seal'> | null
  readonly residency: () => ResidencyPolicy
  readonly mark: Mark
}

/**
 * A sequencer that records nothing but sealed events: whatever way an entry came in, it is checked for residency and sealed before anything is
 * planned. Events of the ledger's own that planning adds name nobody.
 */
export function sealingSequencer(inner: Sequencer, deps: SealingDeps): Sequencer {
  // The last of each tenant's batches that is not with the inner sequencer yet.
  const tails = new Map<string, Promise<unknown>>()
  return {
    async append(batch) {
      const { tenant } = batch.producer
      // Sealed beside each other, handed on in order: a session's later batch before an earlier one would be a gap.
      const handed = Promise.allSettled([tails.get(tenant), sealBatch(batch, deps)]).then(([, sealed]) => {
        if (tails.get(tenant) === handed) tails.delete(tenant)
        if (sealed.status === 'rejected') throw sealed.reason
        return { outcome: inner.append(sealed.value) }
      })
      tails.set(tenant, handed)
      return (await handed).outcome
    },
    async idle() {
      while (tails.size > 0) await Promise.allSettled(tails.values())
      await inner.idle()
    },
  }
}

type Carrier = EventEntry | LogEntry | NoticeEntry

/** @throws SignetError SEAL_KEY_UNAVAILABLE, DATABASE_UNAVAILABLE */
export async function sealBatch(batch: Batch, { sealer, residency, mark }: SealingDeps): Promise<Batch> {
  const { producer } = batch
  const policy = residency()
  const entries: Entry[] = batch.entries.map((entry) => {
    if (entry.kind !== 'event' && entry.kind !== 'log') return entry
    const violation = policy.violation(producer.tenant, entry.event)
    return violation === null ? entry : refused(entry, new SignetError('RESIDENCY_VIOLATION', violation))
  })
  if (sealer === null) return { producer, entries }
  const carriers = [...entries.entries()].filter((pair): pair is [number, Carrier] => carriesEvent(pair[1]))
  if (carriers.length === 0) return { producer, entries }
  const scene = { producer, at: new Date(0), mark }
  const events = carriers.map(([, entry]) => (entry.kind === 'notice' ? noticed(scene, entry) : entry.event))
  const sealed = await sealer.seal(producer.tenant, events)
  for (const [place, [index, entry]] of carriers.entries()) {
    const event = sealed[place]
    if (event !== undefined) entries[index] = withEvent(entry, event)
  }
  return { producer, entries }
}

function carriesEvent(entry: Entry): entry is Carrier {
  if (entry.kind === 'notice') return !isStatement(entry)
  return entry.kind === 'event' || entry.kind === 'log'
}

/** Statements about purges are signed word for word, and name nobody: whatever a platform calls personal, verifiers have to read them. */
function isStatement({ type }: NoticeEntry): boolean {
  return type.startsWith('audit.purge.')
}

function withEvent(entry: Carrier, event: AuditEvent | SignetError): Entry {
  if (event instanceof SignetError) {
    if (entry.kind === 'notice') throw event
    return refused(entry, event)
  }
  if (entry.kind !== 'notice') return { ...entry, event }
  return { ...entry, context: event.context ?? {} }
}

function refused(entry: EventEntry | LogEntry, { code, message }: SignetError): RefusedEntry {
  const { receivedDigest, event } = entry
  return {
    kind: 'refused',
    line: entry.kind === 'event' ? entry.line : 1,
    receivedDigest,
    eventId: event.event_id,
    position: entry.kind === 'event' ? { session: entry.session, spoolSeq: entry.spoolSeq } : undefined,
    code,
    detail: message.slice(0, 300),
  }
}
