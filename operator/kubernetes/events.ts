import { LRUCache } from 'lru-cache'
import type { Clock } from '#operator/clock.ts'
import { apiPath, type KubernetesClient } from './client.ts'
import type { ObjectReference } from './object.ts'

export type UserEvent = {
  readonly regarding: ObjectReference
  readonly type: 'Normal' | 'Warning'
  /** CamelCase, for machines: `CompileFailed`. */
  readonly reason: string
  /** What was done: `Compile`. */
  readonly action: string
  /** For people; cut at 1,000 characters. */
  readonly note: string
}

export type EventRecorder = {
  /** Never throws and never waits: events are best effort. */
  record(event: UserEvent): void
  /** Resolves when what was taken is sent or given up. */
  idle(): Promise<void>
}

const MAX_NOTE_CHARS = 1_000
/** The same event again within this time says nothing new. */
const SAME_EVENT_MS = 600_000
const MAX_WAITING = 200
const PER_SECOND = 5
const BURST = 50

/**
 * events.k8s.io/v1 events on users' objects (`kubectl describe`, `kubectl events`). At most 5 a second in bursts of 50; the same event once in
 * ten minutes; more than 200 waiting are dropped and counted.
 */
export function createEventRecorder(options: {
  readonly client: KubernetesClient
  readonly clock: Clock
  readonly newId: () => string
  /** `reportingInstance`: the pod. */
  readonly instance: string
  readonly onDropped?: (error: unknown) => void
}): EventRecorder {
  const { client, clock } = options
  const seen = new LRUCache<string, number>({ max: 2_000 })
  const waiting: UserEvent[] = []
  let working: Promise<void> | null = null
  let tokens = BURST
  let filledMs = clock.monotonicMs()

  const send = async (event: UserEvent): Promise<void> => {
    const { regarding } = event
    const namespace = regarding.namespace
    await client.request({
      method: 'POST',
      path: apiPath('apis/events.k8s.io/v1', 'namespaces', namespace, 'events'),
      timeoutMs: 5_000,
      body: {
        apiVersion: 'events.k8s.io/v1',
        kind: 'Event',
        metadata: { namespace, name: `${regarding.name.slice(0, 200)}.${options.newId()}` },
        eventTime: new Date(clock.wallMs()).toISOString().replace('Z', '000Z'),
        reportingController: 'signet.dev/operator',
        reportingInstance: options.instance.slice(0, 128),
        action: event.action,
        reason: event.reason,
        regarding,
        note: event.note.length > MAX_NOTE_CHARS ? `${event.note.slice(0, MAX_NOTE_CHARS)}…` : event.note,
        type: event.type,
      },
    })
  }
  const work = async (): Promise<void> => {
    for (let event = waiting.shift(); event !== undefined; event = waiting.shift()) {
      await token()
      await send(event).catch((error: unknown) => options.onDropped?.(error))
    }
    working = null
  }
  const token = async (): Promise<void> => {
    for (;;) {
      const nowMs = clock.monotonicMs()
      tokens = Math.min(BURST, tokens + ((nowMs - filledMs) * PER_SECOND) / 1000)
      filledMs = nowMs
      if (tokens >= 1) {
        tokens -= 1
        return
      }
      await new Promise<void>((resolve) => clock.timer(1000 / PER_SECOND, resolve))
    }
  }

  return {
    record(event) {
      const { regarding, reason, note } = event
      const key = `${regarding.uid ?? `${regarding.kind}/${regarding.namespace}/${regarding.name}`} ${reason} ${note}`
      const nowMs = clock.monotonicMs()
      const lastMs = seen.get(key)
      if (lastMs !== undefined && nowMs - lastMs < SAME_EVENT_MS) return
      seen.set(key, nowMs)
      if (waiting.length >= MAX_WAITING) return options.onDropped?.(new Error('too many events are waiting'))
      waiting.push(event)
      working ??= work()
    },
    async idle() {
      await working
    },
  }
}
