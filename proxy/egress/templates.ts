import { SignetError } from '#core/error/signet-error.ts'
import type { ActiveStampKey } from '#core/keyring/keyring.ts'
import type { Judgement } from '#core/policy/join.ts'
import type { Canonicalization, StampClaims } from '#core/stamp/schema.ts'
import { StampTemplate } from '#core/stamp/template.ts'
import type { ExchangeContext } from '../exchange/context.ts'
import { EventTemplate } from './event-template.ts'
import type { Answer } from './gather.ts'

/** What stamps and events of one kind of answer have in common. */
export type AnswerTemplate = { readonly stamp: StampTemplate; readonly event: EventTemplate }

const MAX_KINDS = 512

/**
 * Templates by kind of answer: all that stamp and event say of it but its ids, digests, times and path. Services answer in few kinds;
 * past `MAX_KINDS` they are forgotten.
 */
export class AnswerTemplates {
  readonly #byKind = new Map<string, AnswerTemplate | null>()
  #key: ActiveStampKey | null = null

  /** Null where there is no template for it: then stamp and event are written as they are. `claims`: without the ids and digests. */
  find(
    context: ExchangeContext,
    answer: Answer,
    judgement: Judgement,
    signing: { readonly canonicalization: Canonicalization; readonly key: ActiveStampKey },
    claims: () => StampClaims,
  ): AnswerTemplate | null {
    // What these hold is no part of the kind.
    if (judgement.violations.length > 0 || judgement.shadow.length > 0 || judgement.undecidable.length > 0) return null
    const { key, canonicalization } = signing
    if (key !== this.#key) this.#byKind.clear()
    this.#key = key
    const { channel, tenant, method, mode, caller, policy } = context
    const { approvalStatus, classification, regulations } = judgement
    const decided = `${policy.revision}\n${classification}\n${approvalStatus}\n${regulations.join()}\n${canonicalization}`
    const kind = `${answer.status}\n${answer.mediaType}\n${channel}\n${mode}\n${method}\n${decided}\n${tenant}\n${caller.subject}`
    let template = this.#byKind.get(kind)
    if (template === undefined) {
      if (this.#byKind.size === MAX_KINDS) this.#byKind.clear()
      template = make(context, answer, judgement, signing, claims)
      this.#byKind.set(kind, template)
    }
    return template
  }
}

function make(
  context: ExchangeContext,
  answer: Answer,
  judgement: Judgement,
  { canonicalization, key }: { readonly canonicalization: Canonicalization; readonly key: ActiveStampKey },
  claims: () => StampClaims,
): AnswerTemplate | null {
  const { status, mediaType } = answer
  try {
    return {
      stamp: new StampTemplate(claims(), canonicalization, key),
      event: new EventTemplate(context, {
        eventType: 'egress.completed',
        action: 'stamp',
        outcome: 'allowed',
        mediaType,
        status,
        judgement,
      }),
    }
  } catch (error) {
    // Whoever signs without a template finds out what is wrong, if anything is.
    if (error instanceof SignetError) return null
    throw error
  }
}
