import Type, { type TSchema } from 'typebox'

const Name = Type.String({ minLength: 1, maxLength: 200, pattern: '^[^\\x00-\\x1f\\x7f]+$' })
const closed = { additionalProperties: false } as const
const Count = Type.Number({ minimum: 0, maximum: 1e15 })
const Names = Type.Array(Name, { maxItems: 1_000, uniqueItems: true })

/** Records that events are judged by, by kind. They are what people and systems with the permission for it say, never what an event says. */
export const REFERENCE_KINDS = {
  /** Key: the tier. */
  tier: Type.Object({ models: Type.Optional(Names), features: Type.Optional(Names) }, closed),
  /** Key: the client. */
  account: Type.Object({ tier: Name }, closed),
  /** Key: the client. Tokens granted in the running calendar month (UTC). */
  billing: Type.Object({ tokens_granted: Count }, closed),
  /** Key: the client. Minutes of the running calendar month (UTC). */
  voice_budget: Type.Object({ minutes: Count }, closed),
  /** Key: the id of the object at Stripe. */
  stripe_record: Type.Object(
    {
      amount: Type.Optional(Type.Integer()),
      currency: Type.Optional(Type.String({ pattern: '^[a-z]{3}$' })),
      status: Type.Optional(Name),
    },
    { ...closed, minProperties: 1 },
  ),
  /** Key: the id of the supervision. Counts from when it is made. */
  supervision: Type.Object(
    { agent_id: Name, action: Name, approved_by: Name, valid_until: Type.String({ format: 'date-time' }) },
    closed,
  ),
  /** Key: method and route, `GET /users/{id}`. */
  api_contract: Type.Object(
    {
      statuses: Type.Array(Type.Integer({ minimum: 100, maximum: 599 }), { minItems: 1, maxItems: 100 }),
      fields: Names,
      /** Of this endpoint, a GET that needs no credentials and no proxy: how it answers is looked at there. */
      observe_url: Type.Optional(Type.String({ pattern: '^https?://[^\\s]+$', maxLength: 2_048 })),
    },
    closed,
  ),
} as const satisfies Record<string, TSchema>
export type ReferenceKind = keyof typeof REFERENCE_KINDS
export const REFERENCE_KIND_NAMES = Object.keys(REFERENCE_KINDS) as ReferenceKind[]

export const SOURCES = [
  'ai_model',
  'billing',
  'voice',
  'stripe',
  'maos',
  'data_access',
  'activity',
  'permission',
  'deep_agent',
  'api',
] as const
export type Source = (typeof SOURCES)[number]
