import Type from 'typebox'

/** Shared scalar forms. Digests are `sha256:` and 64 lowercase hex digits. */
export const Digest = Type.String({ pattern: '^sha256:[0-9a-f]{64}$' })
/** RFC 3339, UTC, exactly milliseconds: `2026-11-23T09:30:00.123Z`. */
export const TimestampUtc = Type.String({ pattern: '^\\d{4}-\\d{2}-\\d{2}T\\d{2}:\\d{2}:\\d{2}\\.\\d{3}Z$' })
/** A W3C trace id: 32 lowercase hex digits, not all zero. */
export const TraceId = Type.String({ pattern: '^(?!0{32})[0-9a-f]{32}$' })
const Name = Type.String({ minLength: 1, maxLength: 512 })

export const CLASSIFICATIONS = ['public', 'internal', 'confidential', 'restricted'] as const
export const Classification = Type.Enum(CLASSIFICATIONS)
export type Classification = (typeof CLASSIFICATIONS)[number]

export const APPROVAL_STATUSES = ['draft', 'pending-approval', 'approved', 'rejected'] as const
export const ApprovalStatus = Type.Enum(APPROVAL_STATUSES)
export type ApprovalStatus = (typeof APPROVAL_STATUSES)[number]

export const CHANNELS = ['external', 'internal'] as const
export const Channel = Type.Enum(CHANNELS)
export type Channel = (typeof CHANNELS)[number]

export const CANONICALIZATIONS = ['bytes', 'jcs'] as const
export type Canonicalization = (typeof CANONICALIZATIONS)[number]

export const DataLineage = Type.Object({
  producer_id: Name,
  source_assets: Type.Array(Type.String({ minLength: 1, maxLength: 2048 }), { maxItems: 256 }),
  transformations: Type.Array(Type.String({ minLength: 1, maxLength: 512 }), { maxItems: 256 }),
  model_version: Type.Optional(Name),
  input_hash: Type.Optional(Digest),
  request_id: Name,
  trace_id: TraceId,
})

export const Subject = Type.Object({
  tenant: Name,
  method: Type.String({ pattern: "^[A-Z][A-Z0-9!#$%&'*+.^_`|~-]{0,31}$" }),
  target_digest: Digest,
  status: Type.Integer({ minimum: 200, maximum: 599 }),
  media_type: Type.String({ maxLength: 255 }),
  channel: Channel,
})

export const Integrity = Type.Object({
  alg: Type.Literal('HMAC-SHA256'),
  key_id: Name,
  canonicalization: Type.Enum(CANONICALIZATIONS),
  payload_digest: Digest,
  payload_length: Type.Integer({ minimum: 0, maximum: Number.MAX_SAFE_INTEGER }),
  mac: Type.String({ pattern: '^[0-9a-f]{64}$' }),
})

/**
 * The stamp, schema v1 (`docs/reference/stamp.md`). One definition for types, validation and JSON Schema.
 * Objects are open: a verifier covers members that it does not know (they are under the MAC all the same).
 */
export const Stamp = Type.Object(
  {
    stamp_version: Type.Literal('v1'),
    timestamp_utc: TimestampUtc,
    data_classification: Classification,
    regulatory_compliance: Type.Array(Type.String({ pattern: '^[A-Z0-9][A-Z0-9_.-]{0,63}$' }), {
      minItems: 1,
      maxItems: 64,
      uniqueItems: true,
    }),
    approval_status: ApprovalStatus,
    data_lineage: DataLineage,
    subject: Subject,
    policy: Type.Object({ bundle_revision: Name, decision_id: Name }),
    integrity: Integrity,
  },
  { $id: 'https://signet.dev/schemas/stamp/v1.json', title: 'Signet compliance stamp, v1' },
)

export type Stamp = Type.Static<typeof Stamp>
export type StampSubject = Type.Static<typeof Subject>
/** What an issuer decides; `integrity` is added by signing. */
export type StampClaims = Omit<Stamp, 'integrity'>
