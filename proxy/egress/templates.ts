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
  /** What was looked for last, which mostly is what is looked for next. */
  #last: Kind & { readonly template: AnswerTemplate | null } = NOTHING

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
    const { channel, tenant, method, mode, caller, policy } = context
    const { status, mediaType } = answer
    const kind: Kind = { ...signing, channel, tenant, method, mode, caller, policy, status, mediaType, judgement }
    if (isSame(kind, this.#last)) return this.#last.template
    if (kind.key !== this.#key) this.#byKind.clear()
    this.#key = kind.key
    const name = nameOf(kind)
    let template = this.#byKind.get(name)
    if (template === undefined) {
      if (this.#byKind.size === MAX_KINDS) this.#byKind.clear()
      template = make(context, answer, judgement, signing, claims)
      this.#byKind.set(name, template)
    }
    this.#last = { ...kind, template }
    return template
  }
}

type Kind = Pick<ExchangeContext, 'channel' | 'tenant' | 'method' | 'mode' | 'caller' | 'policy'> &
  Pick<Answer, 'status' | 'mediaType'> & {
    readonly judgement: Judgement
    readonly canonicalization: Canonicalization
    readonly key: ActiveStampKey
  }

const NOTHING = {} as Kind & { readonly template: null }

function isSame(a: Kind, b: Kind): boolean {
  return (
    a.judgement === b.judgement &&
    a.policy === b.policy &&
    a.key === b.key &&
    a.caller === b.caller &&
    a.status === b.status &&
    a.mediaType === b.mediaType &&
    a.method === b.method &&
    a.mode === b.mode &&
    a.channel === b.channel &&
    a.tenant === b.tenant &&
    a.canonicalization === b.canonicalization
  )
}

/** By what of it stands in stamp and event. */
function nameOf({ channel, tenant, method, mode, caller, policy, status, mediaType, ...rest }: Kind): string {
  const { approvalStatus, classification, regulations } = rest.judgement
  const decided = `${policy.revision}\n${classification}\n${approvalStatus}\n${regulations.join()}\n${rest.canonicalization}`
  return `${status}\n${mediaType}\n${channel}\n${mode}\n${method}\n${decided}\n${tenant}\n${caller.subject}`
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
