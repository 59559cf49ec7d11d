import { SignetError } from '#core/error/signet-error.ts'
import type { JsonObject } from '#core/json/value.ts'
import type { Client } from '#runtime/postgres/transaction.ts'
import { endpointOf, textOf } from '../events/judge.ts'
import { putReference, type EventRow, type ViolationRow } from '../store/compliance.ts'
import {
  activeTokens,
  disableServiceAccount,
  haveAdministrator,
  principalsNamed,
  revokeTokens,
} from '../store/containment.ts'
import type { BillingApi } from './billing.ts'
import type { Strategy } from './strategies.ts'

/** What was read outside of the transaction. */
export type Seen =
  | { readonly kind: 'customer'; readonly id: string; readonly metadata: Readonly<Record<string, string>> | null }
  | { readonly kind: 'payment'; readonly id: string; readonly payment: JsonObject | null }
  | { readonly kind: 'nothing' }

/** What a strategy did, or would do. `isDone`: by an independent look at what it acted on; null: the rule has to be asked again. */
export type Acted = { readonly detail: string; readonly evidence: JsonObject; readonly isDone: boolean | null }

const ACTOR = 'system/resolver'

/** What a strategy needs to know from elsewhere, before anything is changed. @throws SignetError CONNECTOR_FAILED */
export async function look(strategy: Strategy, event: EventRow, billing: BillingApi | null): Promise<Seen> {
  if (strategy !== 'billing-sync-fix' && strategy !== 'auto-correction') return { kind: 'nothing' }
  if (billing === null)
    throw new SignetError('CONNECTOR_FAILED', 'no billing API is configured (SIGNET_GOVERNANCE_BILLING_URL)')
  if (event.source === 'stripe') {
    const id = paymentIdOf(event)
    if (id === null) throw new SignetError('CONNECTOR_FAILED', 'the event names no payment')
    return { kind: 'payment', id, payment: await billing.payment(id) }
  }
  const client = event.details['client_id']
  if (typeof client !== 'string') throw new SignetError('CONNECTOR_FAILED', 'the event names no client')
  return { kind: 'customer', id: client, metadata: await billing.customer(client) }
}

/** Does what the strategy does, in the transaction of `client`; doing it again changes nothing more. `dry`: says what it would do. */
export async function act(
  client: Client,
  tenant: string,
  strategy: Strategy,
  { violation, event, seen, dry }: { violation: ViolationRow; event: EventRow; seen: Seen; dry: boolean },
): Promise<Acted> {
  switch (strategy) {
    case 'permission-reset':
      return resetPermissions(client, tenant, violation.subject, { dry, disable: false })
    case 'MAOS-action-block':
      return resetPermissions(client, tenant, violation.subject, { dry, disable: true })
    case 'billing-sync-fix':
    case 'auto-correction':
      return syncRecords(client, tenant, event, seen, dry)
    case 'workflow-repair':
      return {
        detail: 'waits until the registered contract and the endpoint agree',
        evidence: { endpoint: endpointOf(event.details) },
        isDone: null,
      }
  }
}

/** Sessions and tokens of whoever bears the name end; an agent's account is disabled as well. */
async function resetPermissions(
  client: Client,
  tenant: string,
  subject: string | null,
  { dry, disable }: { dry: boolean; disable: boolean },
): Promise<Acted> {
  if (subject === null) return { detail: 'the event names nobody', evidence: {}, isDone: false }
  const principals = await principalsNamed(client, tenant, subject)
  if (principals.length === 0)
    return { detail: `${subject} is no user and no service account here`, evidence: { subject }, isDone: false }
  if (await haveAdministrator(client, tenant, principals))
    return { detail: `${subject} is an administrator: a person has to decide`, evidence: { subject }, isDone: false }
  const before = await activeTokens(client, tenant, principals)
  if (dry)
    return {
      detail: `would end ${before} tokens of ${subject}${disable ? ' and disable it' : ''}`,
      evidence: { subject, tokens: before },
      isDone: false,
    }
  const revoked = await revokeTokens(client, tenant, principals)
  const disabled = disable ? await disableServiceAccount(client, tenant, principals) : 0
  const left = await activeTokens(client, tenant, principals)
  return {
    detail: `ended ${revoked} tokens of ${subject}${disabled > 0 ? ', and disabled it' : ''}`,
    evidence: { subject, revoked, disabled, left },
    isDone: left === 0,
  }
}

/** Records here become what the billing system says; whether that resolves it, the rule says. */
async function syncRecords(client: Client, tenant: string, event: EventRow, seen: Seen, dry: boolean): Promise<Acted> {
  if (seen.kind === 'payment') {
    const { payment, id } = seen
    if (payment === null) return { detail: `the billing system knows no ${id}`, evidence: { id }, isDone: false }
    const value: JsonObject = {
      ...(Number.isSafeInteger(payment['amount']) ? { amount: payment['amount'] as number } : {}),
      ...(typeof payment['currency'] === 'string' ? { currency: payment['currency'] } : {}),
      ...(typeof payment['status'] === 'string' ? { status: payment['status'] } : {}),
    }
    if (!dry) await putReference(client, tenant, { kind: 'stripe_record', key: id, value, updated_by: ACTOR })
    return {
      detail: `${dry ? 'would record' : 'recorded'} ${id} as the billing system has it`,
      evidence: { id, record: value },
      isDone: null,
    }
  }
  if (seen.kind === 'customer') {
    const { id, metadata } = seen
    if (metadata === null)
      return { detail: `the billing system knows no client ${id}`, evidence: { client: id }, isDone: false }
    const records = recordsOf(event.source, metadata)
    if (records.length === 0)
      return { detail: `the billing system says nothing of this about ${id}`, evidence: { client: id }, isDone: false }
    if (!dry)
      for (const { kind, value } of records)
        await putReference(client, tenant, { kind, key: id, value, updated_by: ACTOR })
    const evidence = { client: id, records: records.map(({ kind, value }) => ({ kind, value })) }
    return {
      detail: `${dry ? 'would record' : 'recorded'} what the billing system says of ${id}`,
      evidence,
      isDone: null,
    }
  }
  return { detail: 'there is nothing to go by', evidence: {}, isDone: false }
}

type NewRecord = { readonly kind: 'billing' | 'voice_budget' | 'account'; readonly value: JsonObject }

function recordsOf(source: string, metadata: Readonly<Record<string, string>>): NewRecord[] {
  const count = (text: string | undefined): number | null =>
    text !== undefined && /^\d{1,15}$/.test(text) ? Number(text) : null
  const tokens = count(metadata['tokens_granted'])
  const minutes = count(metadata['voice_minutes'])
  const tier = metadata['tier']
  if (source === 'billing') return tokens === null ? [] : [{ kind: 'billing', value: { tokens_granted: tokens } }]
  if (source === 'voice') return minutes === null ? [] : [{ kind: 'voice_budget', value: { minutes } }]
  return tier === undefined || tier === '' || tier.length > 200 ? [] : [{ kind: 'account', value: { tier } }]
}

function paymentIdOf({ details }: EventRow): string | null {
  try {
    const { data } = JSON.parse(textOf(details['payload'])) as { data?: { object?: { id?: unknown } } }
    const id = data?.object?.id
    return typeof id === 'string' && /^[A-Za-z0-9_-]{1,100}$/.test(id) ? id : null
  } catch {
    return null
  }
}
