import Type from 'typebox'
import { Digest, TimestampUtc, TraceId } from '../stamp/schema.ts'

const Name = Type.String({ minLength: 1, maxLength: 512 })
const JsonOrNull = Type.Union([
  Type.Null(),
  Type.Object({}),
  Type.Array(Type.Unknown()),
  Type.String(),
  Type.Number(),
  Type.Boolean(),
])

export const STAGES = ['ingest', 'transform', 'validate', 'approve', 'publish'] as const
export const OUTCOMES = ['allowed', 'denied', 'success', 'failure', 'error', 'unknown'] as const

/**
 * The audit event, version 1 (`docs/reference/audit.md`). Closed: an unknown member is refused, since a ledger must not
 * keep what nobody defined; extensions go into `context`. On the wire it is its RFC 8785 bytes.
 */
export const AuditEvent = Type.Object(
  {
    event_id: Type.String({ pattern: '^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$' }),
    event_type: Name,
    timestamp_utc: TimestampUtc,
    trace_id: TraceId,
    request_id: Name,
    actor: Name,
    tenant: Name,
    stage: Type.Enum(STAGES),
    action: Name,
    resource: Type.String({ minLength: 1, maxLength: 4096 }),
    resource_type: Type.Optional(Name),
    resource_id: Type.Optional(Type.String({ minLength: 1, maxLength: 2048 })),
    before: JsonOrNull,
    after: JsonOrNull,
    outcome: Type.Enum(OUTCOMES),
    /** Milliseconds, 0 or more. */
    latency_ms: Type.Number({ minimum: 0 }),
    stamp_hash: Type.Union([Digest, Type.Null()]),
    context: Type.Optional(Type.Record(Type.String(), Type.Unknown())),
    region: Type.Optional(Name),
    data_domain: Type.Optional(Name),
    source: Type.Optional(Name),
  },
  { additionalProperties: false, $id: 'https://signet.dev/schemas/audit-event/v1.json' },
)
export type AuditEvent = Type.Static<typeof AuditEvent>
