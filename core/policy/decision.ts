import Type from 'typebox'
import { ApprovalStatus, Channel, Classification, CANONICALIZATIONS, Digest } from '../stamp/schema.ts'

/** What a native detector found. `applicable: false`: the detector does not read this media type (decidable, counts as none). */
export const Fact = Type.Object({ applicable: Type.Boolean(), count: Type.Integer({ minimum: 0 }) })
export type Fact = Type.Static<typeof Fact>

/** Names of the facts under `input.response.facts`; each has its native detector in `engine/detect/`. */
export const FACT_NAMES = [
  'email',
  'iban',
  'payment_card',
  'phone',
  'national_id',
  'person_name',
  'financial_statement',
] as const
export type FactName = (typeof FACT_NAMES)[number]

/** An approval that matched this resource, channel, version or digest, and has not expired. */
export const MatchedApproval = Type.Object({ id: Type.String(), approved_by: Type.String(), expires_at: Type.String() })

/** A block in force that this request matches: of the agent that asks or answers, or of the route. */
export const MatchedBlock = Type.Object({
  id: Type.String(),
  kind: Type.Enum(['agent', 'route']),
  expires_at: Type.String(),
})

/**
 * `input` of every rule at stage `egress`. Members are snake_case, as rules read them. A member that could not be determined is
 * absent. `response.body` is present only where a rule of the bundle reads it; `response.facts` holds the facts whose detector ran.
 */
export const DecisionInput = Type.Object({
  stage: Type.Literal('egress'),
  tenant: Type.String(),
  channel: Channel,
  request: Type.Object({
    method: Type.String(),
    /** Path of the request target, without query, as received. */
    path: Type.String(),
    /** The route template that matched (policy data `routes`), or null. */
    path_template: Type.Union([Type.String(), Type.Null()]),
    /** The path templates of the rules that the path matches, in any of its readings; sorted. */
    matched_templates: Type.Optional(Type.Array(Type.String())),
    /** Lower-case names; only those listed in `SELECTED_REQUEST_HEADERS`. */
    headers: Type.Record(Type.String(), Type.String()),
    caller: Type.Object({
      subject: Type.String(),
      roles: Type.Array(Type.String()),
      region: Type.Union([Type.String(), Type.Null()]),
    }),
  }),
  response: Type.Object({
    status: Type.Integer(),
    /** Lower-case `type/subtype`, no parameters; empty where the upstream sent none. */
    media_type: Type.String(),
    /** Bytes after Content-Encoding was removed; null for a stream whose size is not known yet. */
    size: Type.Union([Type.Integer(), Type.Null()]),
    headers: Type.Record(Type.String(), Type.String()),
    /** What was found in the place of a stamp in the upstream's own body. */
    upstream_stamp: Type.Enum(['none', 'verified', 'forged']),
    facts: Type.Partial(Type.Record(Type.Enum(FACT_NAMES), Fact)),
    body: Type.Optional(Type.Unknown()),
  }),
  /** Policy data of the route that matched: declared classification and regulations, residency. */
  route: Type.Union([
    Type.Null(),
    Type.Object({
      classification: Type.Optional(Classification),
      regulations: Type.Optional(Type.Array(Type.String())),
      regions: Type.Optional(Type.Array(Type.String())),
    }),
  ]),
  lineage: Type.Object({
    source_assets: Type.Array(Type.String()),
    transformations: Type.Array(Type.String()),
    model_version: Type.Optional(Type.String()),
    input_hash: Type.Optional(Digest),
    /** `Signet-Data-Classification` of the application's own response headers. */
    declared_classification: Type.Optional(Type.String()),
    artifact_version: Type.Optional(Type.String()),
  }),
  workload: Type.Object({
    producer_id: Type.String(),
    namespace: Type.String(),
    region: Type.Union([Type.String(), Type.Null()]),
    /** Labels of the pod. */
    labels: Type.Optional(Type.Record(Type.String(), Type.String())),
  }),
  approvals: Type.Array(MatchedApproval),
  blocks: Type.Optional(Type.Array(MatchedBlock)),
})
export type DecisionInput = Type.Static<typeof DecisionInput>

/** Request and response headers that rules may read, lower-case. Everything else stays out of the input (and the cache key). */
export const SELECTED_REQUEST_HEADERS = ['accept', 'user-agent', 'content-type', 'x-purpose', 'sec-fetch-site'] as const
export const SELECTED_RESPONSE_HEADERS = ['content-disposition', 'content-language', 'cache-control'] as const

export const SEVERITIES = ['low', 'medium', 'high', 'critical'] as const

/** A violation as a rule states it; the engine adds `rule`. */
export const RuleViolation = Type.Object({
  severity: Type.Enum(SEVERITIES),
  message: Type.String({ minLength: 1, maxLength: 2000 }),
  remediation: Type.Object({
    hint: Type.String({ maxLength: 2000 }),
    url: Type.Optional(Type.String({ maxLength: 2000 })),
  }),
  frameworks: Type.Array(Type.String(), { maxItems: 64 }),
})

/**
 * What a rule's entrypoint (`decision`) must return. `evaluated: true` is the sentinel: anything else is undecidable.
 * Obligations are joined over all rules: highest classification, union of regulations, strictest approval status.
 */
export const RuleDecision = Type.Object({
  evaluated: Type.Literal(true),
  violations: Type.Array(RuleViolation, { maxItems: 256 }),
  classification: Type.Optional(Classification),
  regulations: Type.Optional(Type.Array(Type.String({ pattern: '^[A-Z0-9][A-Z0-9_.-]{0,63}$' }), { maxItems: 64 })),
  approval_status: Type.Optional(ApprovalStatus),
  canonicalization: Type.Optional(Type.Enum(CANONICALIZATIONS)),
  /** The rule does not apply to this response. Only generated guards say so. */
  outside: Type.Optional(Type.Boolean()),
})
export type RuleDecision = Type.Static<typeof RuleDecision>

export type Violation = Type.Static<typeof RuleViolation> & { rule: string }
/** One rule's part of a judgement: its decision, or why there is none. */
export type RuleOutcome = { rule: string; decision: RuleDecision } | { rule: string; undecidable: string }
