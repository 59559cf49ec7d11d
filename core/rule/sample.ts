import Type from 'typebox'
import type { JsonObject, JsonValue } from '../json/value.ts'
import { FACT_NAMES, type DecisionInput } from '../policy/decision.ts'

/** What a sample may want of its rule. */
export const WANTS = ['allow', 'violations', 'undecidable'] as const
export type Want = (typeof WANTS)[number]

/** A file of samples for rules (`docs/write-a-rule.md`). */
export const SampleFile = Type.Object(
  {
    samples: Type.Array(
      Type.Object(
        {
          title: Type.String({ minLength: 1, maxLength: 200 }),
          /** Of which rule; may be left out where the file's name says it. */
          rule: Type.Optional(Type.String({ minLength: 1, maxLength: 63 })),
          /** Merged over `defaultInput()`: objects member by member, anything else as a whole; null members of objects stay null. */
          input: Type.Optional(Type.Record(Type.String(), Type.Unknown())),
          /** Dotted paths below input that could not be determined. */
          unread: Type.Optional(Type.Array(Type.String({ minLength: 1, maxLength: 512 }), { maxItems: 32 })),
          want: Type.Enum(WANTS),
        },
        { additionalProperties: false },
      ),
      { minItems: 1, maxItems: 1000 },
    ),
  },
  { additionalProperties: false },
)
export type SampleFile = Type.Static<typeof SampleFile>
export type RuleSample = SampleFile['samples'][number]

/** An ordinary answer that nothing is wrong with: 200, JSON, external channel, nothing found in it. */
export function defaultInput(): DecisionInput {
  return {
    stage: 'egress',
    tenant: 'default',
    channel: 'external',
    request: {
      method: 'GET',
      path: '/',
      path_template: null,
      headers: {},
      caller: { subject: 'anonymous', roles: [], region: null },
    },
    response: {
      status: 200,
      media_type: 'application/json',
      size: 512,
      headers: {},
      upstream_stamp: 'none',
      facts: Object.fromEntries(FACT_NAMES.map((name) => [name, { applicable: true, count: 0 }])),
    },
    route: null,
    lineage: { source_assets: [], transformations: [] },
    workload: { producer_id: 'default/app', namespace: 'default', region: null, labels: {} },
    approvals: [],
  }
}

/** Puts one JSON value over another: objects member by member, anything else as a whole. */
export function mergeOver(base: JsonValue, over: JsonValue): JsonValue {
  if (!isObject(base) || !isObject(over)) return over
  const merged = new Map<string, JsonValue>(Object.entries(base))
  for (const [name, value] of Object.entries(over)) {
    const below = merged.get(name)
    merged.set(name, below === undefined ? value : mergeOver(below, value))
  }
  return Object.fromEntries(merged)
}

function isObject(value: JsonValue): value is JsonObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}
