import type { AuditEvent } from '#core/audit/event.ts'
import { SignetError } from '#core/error/signet-error.ts'
import { withAcknowledged } from './decide.ts'
import type { ObjectStore } from './objects.ts'
import { revisionOf } from './publication-event.ts'
import { readIndex, writeIndex } from './revisions.ts'

/** Events of a namespace that may wait for the ledger: they have to fit into its index, together with the revisions. */
export const MAX_OUTBOX = 200
const MAX_ATTEMPTS = 8

/** Events are written in one step with the revision that they tell of, and leave the index when the ledger has them: at least once. */
export type Outbox = {
  /** Sends what waits, oldest first; resolves when nothing does or the ledger does not answer. Never rejects. */
  deliver(namespace: string): Promise<void>
  /** Resolves when deliveries under way have ended. */
  settled(): Promise<void>
}

export function createOutbox(deps: {
  objects: ObjectStore
  audit: (event: AuditEvent) => Promise<void>
  onFailed: (namespace: string, error: unknown) => void
}): Outbox {
  const { objects } = deps
  const delivering = new Map<string, Promise<void>>()

  async function deliverAll(namespace: string): Promise<void> {
    for (let sent = 0; sent < MAX_OUTBOX; sent++) {
      const event = (await readIndex(objects, namespace))?.index.outbox[0]
      if (event === undefined) return
      await deps.audit(event)
      await acknowledge(namespace, event)
    }
  }

  async function acknowledge(namespace: string, event: AuditEvent): Promise<void> {
    for (let attempt = 0; attempt < MAX_ATTEMPTS; attempt++) {
      const record = await readIndex(objects, namespace)
      if (record === null) return
      const next = withAcknowledged(record.index, event.event_id, revisionOf(event))
      if ((await writeIndex(objects, record, namespace, next)) !== null) return
    }
    throw new SignetError('BUNDLE_UNAVAILABLE', `The index of namespace ${namespace} is being written all the time`)
  }

  return {
    deliver(namespace) {
      const running = delivering.get(namespace)
      if (running !== undefined) return running
      const started = deliverAll(namespace)
        .catch((error: unknown) => deps.onFailed(namespace, error))
        .finally(() => delivering.delete(namespace))
      delivering.set(namespace, started)
      return started
    },
    async settled() {
      await Promise.all(delivering.values())
    },
  }
}
