import { isDeepStrictEqual } from 'node:util'
import { SignetError } from '#core/error/signet-error.ts'
import type { JsonObject } from '#core/json/value.ts'
import { textOf } from '../events/judge.ts'
import type { ReferenceKind } from '../events/reference-kinds.ts'
import { findReference, putReference, type EventRow } from '../store/compliance.ts'
import { ACTOR, type Acted, type Scene } from './acted.ts'
import type { BillingApi } from './billing.ts'
import type { UndoneRecord } from './undo.ts'

/** What the billing system was seen to say. */
export type Billed =
  | { readonly kind: 'customer'; readonly id: string; readonly metadata: Readonly<Record<string, string>> | null }
  | { readonly kind: 'payment'; readonly id: string; readonly payment: JsonObject | null }

type NewRecord = { readonly kind: ReferenceKind; readonly key: string; readonly value: JsonObject }

/** Asks the billing system about whom an event names. @throws SignetError CONNECTOR_FAILED */
export async function askBilling(event: EventRow, billing: BillingApi | null): Promise<Billed> {
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

/** Records here become what the billing system says; whether that resolves it, the rule says. */
export async function syncRecords(scene: Scene, billed: Billed): Promise<Acted> {
  const records = recordsOf(scene.event.source, billed)
  if (typeof records === 'string') return { detail: records, evidence: { id: billed.id }, isDone: false }
  const undone: UndoneRecord[] = []
  for (const record of records) {
    const undo = scene.dry ? null : await putRecord(scene, record)
    if (undo !== null) undone.push(undo)
  }
  return {
    detail: `${scene.dry ? 'would record' : 'recorded'} what the billing system says of ${billed.id}`,
    evidence: { id: billed.id, records: records.map(({ kind, value }) => ({ kind, value })) },
    isDone: null,
    ...(undone.length === 0 ? {} : { undo: { records: undone } }),
  }
}

/** Null where the record says so already. */
async function putRecord({ client, tenant }: Scene, record: NewRecord): Promise<UndoneRecord | null> {
  const { kind, key, value } = record
  const before = await findReference(client, tenant, kind, key)
  if (before !== null && isDeepStrictEqual(before.value, value)) return null
  const { version } = await putReference(client, tenant, { kind, key, value, updated_by: ACTOR })
  return { kind, key, before: before?.value ?? null, version }
}

/** A text says why there are none. */
function recordsOf(source: string, billed: Billed): NewRecord[] | string {
  const { id: key } = billed
  if (billed.kind === 'payment') {
    const { payment } = billed
    if (payment === null) return `the billing system knows no ${key}`
    const value: JsonObject = {
      ...(Number.isSafeInteger(payment['amount']) ? { amount: payment['amount'] as number } : {}),
      ...(typeof payment['currency'] === 'string' ? { currency: payment['currency'] } : {}),
      ...(typeof payment['status'] === 'string' ? { status: payment['status'] } : {}),
    }
    return [{ kind: 'stripe_record', key, value }]
  }
  if (billed.metadata === null) return `the billing system knows no client ${key}`
  const record = recordOf(source, billed.metadata)
  return record === null ? `the billing system says nothing of this about ${key}` : [{ ...record, key }]
}

function recordOf(source: string, metadata: Readonly<Record<string, string>>): Omit<NewRecord, 'key'> | null {
  const count = (text: string | undefined): number | null =>
    text !== undefined && /^\d{1,15}$/.test(text) ? Number(text) : null
  const tokens = count(metadata['tokens_granted'])
  const minutes = count(metadata['voice_minutes'])
  const tier = metadata['tier']
  if (source === 'billing') return tokens === null ? null : { kind: 'billing', value: { tokens_granted: tokens } }
  if (source === 'voice') return minutes === null ? null : { kind: 'voice_budget', value: { minutes } }
  return tier === undefined || tier === '' || tier.length > 200 ? null : { kind: 'account', value: { tier } }
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
