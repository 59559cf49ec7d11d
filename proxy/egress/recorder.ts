import { canonicalize } from '#core/canonical/jcs.ts'
import type { Judgement } from '#core/policy/join.ts'
import type { AuditJournal } from '../audit/journal.ts'
import type { ExchangeContext } from '../exchange/context.ts'
import { decisionEvent, type DecisionOutcome } from './decision-event.ts'
import type { Answer } from './gather.ts'

export type Clock = { readonly nowMs: () => number; readonly monotonicMs: () => number }

/** What a decision came to; what is left out follows from the answer: allowed, unstamped, its own status. */
export type Made = Pick<DecisionOutcome, 'eventType' | 'action' | 'payloadLength'> & Partial<DecisionOutcome>

/** Writes decisions to the audit spool, in the order they are made and before the answer's first byte. Throws SPOOL_UNAVAILABLE. */
export class DecisionRecorder {
  readonly #journal: Pick<AuditJournal, 'append'>
  readonly #newEventId: () => string
  readonly #clock: Clock

  constructor(journal: Pick<AuditJournal, 'append'>, newEventId: () => string, clock: Clock) {
    this.#journal = journal
    this.#newEventId = newEventId
    this.#clock = clock
  }

  record(
    context: ExchangeContext,
    answer: Answer | null,
    judgement: Judgement | null,
    made: Made,
    stampJcs: string | null = null,
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
}
