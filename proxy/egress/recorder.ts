import { canonicalize } from '#core/canonical/jcs.ts'
import type { Judgement } from '#core/policy/join.ts'
import type { AuditJournal } from '../audit/journal.ts'
import type { ExchangeContext } from '../exchange/context.ts'
import { decisionEvent, type DecisionOutcome } from './decision-event.ts'
import type { EventTemplate, EventValues } from './event-template.ts'
import type { Answer } from './gather.ts'

export type Clock = { readonly nowMs: () => number; readonly monotonicMs: () => number }

/** What a decision came to; what is left out follows from the answer: allowed, unstamped, its own status. */
export type Made = Pick<DecisionOutcome, 'eventType' | 'action' | 'payloadLength'> & Partial<DecisionOutcome>

/** Writes decisions to the audit spool, in the order they are made and before the answer's first byte. Throws SPOOL_UNAVAILABLE. */
export class DecisionRecorder {
  readonly #journal: Pick<AuditJournal, 'append' | 'group'>
  readonly #newEventId: () => string
  readonly #clock: Clock
  #waiting = false

  constructor(journal: Pick<AuditJournal, 'append' | 'group'>, newEventId: () => string, clock: Clock) {
    this.#journal = journal
    this.#newEventId = newEventId
    this.#clock = clock
  }

  /** There may be events that are recorded and not written yet: nothing may leave. */
  get waiting(): boolean {
    return this.#waiting
  }

  /** Runs `work`; the events that it records are written together when it returns. Throws SPOOL_UNAVAILABLE where they are not. */
  group(work: () => void): void {
    this.#waiting = true
    try {
      this.#journal.group(work)
    } finally {
      this.#waiting = false
    }
  }

  record(
    context: ExchangeContext,
    answer: Answer | null,
    judgement: Judgement | null,
    made: Made,
    stampJcs: Buffer | null = null,
  ): void {
    if (!context.policy.auditEnabled) return
    const event = decisionEvent(context, {
      nowMs: this.#clock.nowMs(),
      latencyMs: this.#clock.monotonicMs() - context.startedAt,
      outcome: 'allowed',
      stampHash: null,
      decisionId: null,
      judgement,
      status: answer?.status ?? null,
      upstreamStatus: answer?.status ?? null,
      mediaType: answer?.mediaType ?? '',
      errorCode: null,
      ignored: answer?.lineage.ignored ?? [],
      eventId: made.eventId ?? this.#newEventId(),
      ...made,
    })
    this.#journal.append(canonicalize(event), stampJcs)
  }

  /** The same for a stamped answer of a kind that was seen before. */
  recordAlike(
    context: ExchangeContext,
    template: EventTemplate,
    values: Omit<EventValues, 'eventId' | 'latencyMs'>,
    stampJcs: Buffer,
  ): void {
    if (!context.policy.auditEnabled) return
    const latencyMs = this.#clock.monotonicMs() - context.startedAt
    this.#journal.append(template.textOf(context, { ...values, eventId: this.#newEventId(), latencyMs }), stampJcs)
  }
}
