import { sha256Hex } from '#core/crypto/digest.ts'
import { SignetError } from '#core/error/signet-error.ts'
import type { Answer } from '../egress/gather.ts'
import { inspectBody, inspectNothing, inspectUnread, type Inspection, type StampCheck } from '../egress/inspect.ts'
import type { RequestEffect } from '../egress/refusal.ts'
import type { Decided, Sealed } from '../egress/sealed.ts'
import type { EgressValidator, Sized } from '../egress/validator.ts'
import { contentTypeOf } from '../http/media-type.ts'
import type { StampVerifier } from '../stamps/foreign.ts'
import type { ExchangeContext } from './context.ts'
import type { TurnStep } from './turn.ts'

/** Who an answer is held for. */
export type AnswerOwner = {
  readonly context: ExchangeContext
  readonly settled: boolean
  /** The stamp of the answer is asked for, not the answer. */
  readonly asSidecar: boolean
  readonly effect: RequestEffect
  /** Runs a step; what it throws ends the exchange. */
  guard(step: () => void): void
  fail(error: unknown): void
  send(sealed: Sealed): void
}

/** A whole answer: decided on at the end of the turn, and sent when the events of the turn are written. */
export class HeldAnswer implements TurnStep {
  readonly #owner: AnswerOwner
  readonly #validator: EgressValidator
  readonly #checkStamp: StampCheck
  readonly #answer: Answer
  readonly #raw: Buffer
  /** Without its Content-Encoding; null where that cannot be removed. */
  readonly #content: Buffer | null
  #decided: Decided | null = null

  constructor(
    owner: AnswerOwner,
    deps: { readonly validator: EgressValidator; readonly stampVerifier: StampVerifier },
    answer: Answer,
    raw: Buffer,
    content: Buffer | null,
  ) {
    this.#owner = owner
    this.#validator = deps.validator
    this.#checkStamp = (stampBytes, payload) => deps.stampVerifier.check(stampBytes, payload)
    this.#answer = answer
    this.#raw = raw
    this.#content = content
  }

  decide(): void {
    const { settled, context, effect } = this.#owner
    // The client may have gone since the answer was whole.
    if (settled) return
    try {
      this.#decided = this.#decideWhole()
    } catch (error) {
      this.#decided = this.#validator.decideFailure(context, error, this.#answer.status, effect)
    }
  }

  finish(failure: unknown): void {
    const decided = this.#decided
    const owner = this.#owner
    if (decided === null || owner.settled) return
    const validator = this.#validator
    owner.guard(() => {
      if (failure !== null) {
        owner.send(validator.sealUnwritten(decided, failure, this.#answer.status, owner.effect))
        return
      }
      const sealed = validator.sealCoded(decided)
      if (sealed instanceof Promise) void this.#sendCoded(sealed)
      else owner.send(sealed)
    })
  }

  async #sendCoded(coded: Promise<Sealed>): Promise<void> {
    const owner = this.#owner
    try {
      const sealed = await coded
      if (!owner.settled) owner.send(sealed)
    } catch (error) {
      owner.fail(error)
    }
  }

  #decideWhole(): Decided {
    const { context, asSidecar } = this.#owner
    const { policy, mode } = context
    const answer = this.#answer
    const content = this.#content
    const withContent = hasContent(context, answer)
    // Under shadow an answer that cannot be read still passes as it came; it is decided as unread.
    if (content === null) return this.#decideShadow(inspectUnread(policy, answer.mediaType, NO_BYTES), null)
    const contentType = contentTypeOf(answer.headers['content-type'])
    const inspection = withContent
      ? inspectBody(content, contentType, policy, this.#checkStamp)
      : inspectNothing(policy)
    const { payload } = inspection
    if (mode === 'shadow') return this.#decideShadow(inspection, payload.length)
    if (!asSidecar) {
      const received = withContent ? { raw: this.#raw, content } : null
      return this.#validator.decideWhole(context, answer, inspection, received)
    }
    const sized = { hex: sha256Hex(payload), length: payload.length }
    return decideSidecar(this.#validator, context, answer, inspection, sized)
  }

  #decideShadow(inspection: Inspection, size: number | null): Decided {
    const { context } = this.#owner
    const answer = this.#answer
    this.#validator.observe(context, answer, inspection, size)
    return this.#validator.decideTransparent(context, answer, hasContent(context, answer) ? this.#raw : null)
  }
}

const NO_BYTES = Buffer.alloc(0)

export function hasContent(context: ExchangeContext, { status }: Answer): boolean {
  return context.method !== 'HEAD' && status !== 204 && status !== 304
}

/** The stamp of NAME for `NAME.stamp.json`, if NAME is there. */
export function decideSidecar(
  validator: EgressValidator,
  context: ExchangeContext,
  answer: Answer,
  inspection: Inspection,
  sized: Sized,
): Decided {
  if (answer.status === 200) return validator.decideSidecar(context, answer, inspection, sized)
  const message = `There is no stamp here: the file it would belong to answered ${answer.status}`
  return validator.decideFailure(context, new SignetError('STAMP_MISSING', message), answer.status, 'none')
}
