import type { AuditEvent } from '../audit/event.ts'
import type { SealedRecord } from '../audit/record.ts'

/** API Activity of the Open Cybersecurity Schema Framework, version 1.3.0 (https://schema.ocsf.io/1.3.0/classes/api_activity). */
export const OCSF_VERSION = '1.3.0'
export const API_ACTIVITY = 6003
const APPLICATION_ACTIVITY = 6

type Named = { readonly id: number; readonly name: string }

const ACTIVITIES: readonly (readonly [RegExp, Named])[] = [
  [/^(create|post|add|insert|open|issue|upload)\b/i, { id: 1, name: 'Create' }],
  [/^(read|get|head|list|search|view|download|export)\b/i, { id: 2, name: 'Read' }],
  [/^(update|put|patch|change|edit|approve|reject|set)\b/i, { id: 3, name: 'Update' }],
  [/^(delete|remove|purge|erase|revoke)\b/i, { id: 4, name: 'Delete' }],
]
const SEVERITIES: Readonly<Record<AuditEvent['outcome'], Named>> = {
  allowed: { id: 1, name: 'Informational' },
  success: { id: 1, name: 'Informational' },
  unknown: { id: 0, name: 'Unknown' },
  failure: { id: 2, name: 'Low' },
  denied: { id: 3, name: 'Medium' },
  error: { id: 3, name: 'Medium' },
}
const STATUSES: Readonly<Record<AuditEvent['outcome'], Named>> = {
  allowed: { id: 1, name: 'Success' },
  success: { id: 1, name: 'Success' },
  unknown: { id: 0, name: 'Unknown' },
  failure: { id: 2, name: 'Failure' },
  denied: { id: 2, name: 'Failure' },
  error: { id: 2, name: 'Failure' },
}

/** A record as an event of that class; the table is in docs/feed.md. What has no place in the class is in `unmapped`. */
export function toOcsf(seq: number, record: SealedRecord): Record<string, unknown> {
  const { event } = record
  const activity = ACTIVITIES.find(([word]) => word.test(event.action))?.[1] ?? { id: 99, name: event.action }
  const severity = SEVERITIES[event.outcome]
  const status = STATUSES[event.outcome]
  return {
    activity_id: activity.id,
    activity_name: activity.name,
    category_uid: APPLICATION_ACTIVITY,
    category_name: 'Application Activity',
    class_uid: API_ACTIVITY,
    class_name: 'API Activity',
    type_uid: API_ACTIVITY * 100 + activity.id,
    type_name: `API Activity: ${activity.id === 99 ? 'Other' : activity.name}`,
    time: Date.parse(event.timestamp_utc),
    // A long; a producer may claim any number.
    duration: Math.min(Math.round(event.latency_ms), Number.MAX_SAFE_INTEGER),
    severity_id: severity.id,
    severity: severity.name,
    status_id: status.id,
    status: status.name,
    status_detail: event.outcome,
    metadata: {
      version: OCSF_VERSION,
      uid: event.event_id,
      correlation_uid: event.trace_id,
      event_code: event.event_type,
      sequence: seq,
      tenant_uid: event.tenant,
      logged_time: Date.parse(record.received_at),
      original_time: event.timestamp_utc,
      log_name: 'signet-ledger',
      product: { name: 'Signet', vendor_name: 'Signet' },
    },
    actor: { user: { name: event.actor } },
    api: {
      operation: event.action,
      request: { uid: event.request_id },
      service: { name: record.producer_id },
    },
    src_endpoint: { svc_name: record.producer_id, ...(event.region === undefined ? {} : { zone: event.region }) },
    resources: [
      {
        name: event.resource,
        ...(event.resource_type === undefined ? {} : { type: event.resource_type }),
        ...(event.resource_id === undefined ? {} : { uid: event.resource_id }),
      },
    ],
    unmapped: {
      stage: event.stage,
      before: event.before,
      after: event.after,
      stamp_hash: event.stamp_hash,
      ...(event.context === undefined ? {} : { context: event.context }),
      ...(event.data_domain === undefined ? {} : { data_domain: event.data_domain }),
    },
  }
}
