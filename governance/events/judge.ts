import { createHash } from 'node:crypto'
import type { JsonObject, JsonValue } from '#core/json/value.ts'
import type { RuleDecision } from '#core/policy/decision.ts'
import type { BundleModule } from '#engine/bundle/build.ts'
import type { Client } from '#runtime/postgres/transaction.ts'
import { SignetError } from '#core/error/signet-error.ts'
import type { Judge } from '../rego/judge.ts'
import { findReference, historyOf, usedInMonth, type EventRow } from '../store/compliance.ts'
import type { ReferenceKind, Source } from './reference-kinds.ts'
import { isStripeSignature, stripeObject } from './stripe.ts'

export type EventRules = {
  readonly judge: Judge
  /** The compiled pack `policies/dist/events`. */
  readonly pack: BundleModule
  /** By tenant: what Stripe signs with. */
  readonly stripeSecrets: ReadonlyMap<string, string>
}
export type FoundViolation = {
  /** `unauthorized_model_usage` */
  readonly rule: string
  readonly severity: 'low' | 'medium' | 'high' | 'critical'
  readonly summary: string
}

const TIMEOUT_MS = 2_000

/** Who an event is about, and what it adds, by source: what later events are compared with. Numbers that are none add nothing. */
export function subjectOf(source: Source, details: JsonObject): { subject: string | null; amount: number | null } {
  const text = (name: string): string | null => {
    const value = details[name]
    return typeof value === 'string' && value !== '' ? value.slice(0, 200) : null
  }
  const number = (name: string): number | null => {
    const value = details[name]
    return typeof value === 'number' && value >= 0 ? value : null
  }
  switch (source) {
    case 'billing':
      return { subject: text('client_id'), amount: number('tokens') }
    case 'voice':
      return { subject: text('client_id'), amount: number('minutes') }
    case 'data_access':
      return { subject: text('actor'), amount: number('records') }
    case 'maos':
    case 'deep_agent':
      return { subject: text('agent_id'), amount: null }
    case 'stripe':
      return { subject: null, amount: null }
    default:
      return { subject: text('client_id') ?? text('actor'), amount: null }
  }
}

/** `GET /users/{id}` */
export function endpointOf(details: JsonObject): string {
  return `${textOf(details['method'])} ${textOf(details['route'])}`
}

export function textOf(value: JsonValue | undefined): string {
  return typeof value === 'string' ? value : ''
}

/** What is recorded about an event's subject, in the transaction of `client`: the rules' `input.reference`. `isFresh`: it just came. */
export async function gatherReference(
  client: Client,
  tenant: string,
  event: EventRow,
  { stripeSecrets }: Pick<EventRules, 'stripeSecrets'>,
): Promise<JsonObject> {
  const { details, subject, created_at: at, id } = event
  const valueOf = async (kind: ReferenceKind, key: unknown): Promise<JsonObject | null> =>
    typeof key === 'string' && key !== ''
      ? ((await findReference(client, tenant, kind, key.slice(0, 300)))?.value ?? null)
      : null
  switch (event.source as Source) {
    case 'ai_model':
    case 'activity':
    case 'permission': {
      const account = await valueOf('account', details['client_id'])
      return { account, tier: await valueOf('tier', account?.['tier']) }
    }
    case 'billing':
      return {
        billing: await valueOf('billing', subject),
        used: subject === null ? 0 : await usedInMonth(client, tenant, 'billing', subject, { id, at }),
      }
    case 'voice':
      return {
        budget: await valueOf('voice_budget', subject),
        used: subject === null ? 0 : await usedInMonth(client, tenant, 'voice', subject, { id, at }),
      }
    case 'data_access':
      return {
        history:
          subject === null
            ? { count: 0, mean: 0, deviation: 0 }
            : { ...(await historyOf(client, tenant, 'data_access', subject, { id, at })) },
      }
    case 'stripe': {
      const { payload, signature } = details
      const secret = stripeSecrets.get(tenant)
      const isText = typeof payload === 'string' && typeof signature === 'string'
      const object = typeof payload === 'string' ? stripeObject(payload) : null
      return {
        signature_valid: isText && secret !== undefined && isStripeSignature(payload, signature, secret, at.getTime()),
        object,
        record: await valueOf('stripe_record', object?.['id']),
      }
    }
    case 'maos':
    case 'deep_agent': {
      const { supervision_id: key } = details
      const row = typeof key === 'string' ? await findReference(client, tenant, 'supervision', key.slice(0, 300)) : null
      if (row === null) return { supervision: null }
      return {
        supervision: {
          ...row.value,
          // A record that was changed afterwards counts from then.
          recorded_ms: row.updated_at.getTime(),
          valid_until_ms: Date.parse(textOf(row.value['valid_until'])),
        },
      }
    }
    case 'api':
      return { contract: await valueOf('api_contract', endpointOf(details)) }
  }
}

/** What the shipped rules find in an event. @throws SignetError EVALUATION_LIMIT, OVERLOADED, RULE_INVALID */
export async function judgeEvent(
  { judge, pack }: EventRules,
  event: EventRow,
  reference: JsonObject,
): Promise<FoundViolation[]> {
  const judged = { digest: digestOf(pack.wasm), wasm: pack.wasm, entrypoint: pack.module.aggregate }
  const input: JsonValue = {
    stage: 'event',
    event: { source: event.source, type: event.event_type, details: event.details, at_ms: event.created_at.getTime() },
    reference,
  }
  const decisions = (await judge.evaluate(judged, input, TIMEOUT_MS)) as Record<string, RuleDecision> | undefined
  return pack.module.rules.flatMap(({ id }) => {
    const decision = decisions?.[id]
    // A rule that decides nothing lets nothing pass unnoticed.
    if (decision === undefined) throw new SignetError('RULE_INVALID', `the rule ${id} decides nothing for this event`)
    return decision.violations.map(({ severity, message }): FoundViolation => ({
      rule: id.replaceAll('-', '_'),
      severity,
      summary: message.slice(0, 1_000),
    }))
  })
}

const digests = new WeakMap<Buffer, string>()
function digestOf(wasm: Buffer): string {
  const known = digests.get(wasm)
  if (known !== undefined) return known
  const digest = createHash('sha256').update(wasm).digest('hex')
  digests.set(wasm, digest)
  return digest
}

export const SEVERITY_RANKS = { critical: 1, high: 2, medium: 3, low: 4 } as const
