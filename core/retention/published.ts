import Type from 'typebox'
import { Compile } from 'typebox/compile'
import { SignetError } from '../error/signet-error.ts'
import { parseStrict } from '../json/strict.ts'
import { durationDays } from '../rule/duration.ts'
import { PURGE_MODES, type RetentionPolicySpec } from '../rule/retention.ts'

const closed = { additionalProperties: false } as const
const Values = Type.Optional(Type.Array(Type.String({ minLength: 1, maxLength: 512 }), { minItems: 1, maxItems: 256 }))
const Days = Type.Integer({ minimum: 1, maximum: 36_600_000 })

/** A policy in days, with its defaults filled in. A member of `selector` that is left out selects all. */
export const PublishedPolicy = Type.Object(
  {
    name: Type.String({ minLength: 1, maxLength: 253 }),
    uid: Type.String({ maxLength: 128 }),
    generation: Type.Integer({ minimum: 0 }),
    selector: Type.Object({ tenants: Values, data_domains: Values, regions: Values, frameworks: Values }, closed),
    hot_days: Days,
    archive_days: Days,
    purge: Type.Object({ mode: Type.Enum(PURGE_MODES), keep_summary: Type.Boolean() }, closed),
    legal_hold: Type.Union([
      Type.Null(),
      Type.Object(
        { reason: Type.String({ maxLength: 2_000 }), reference: Type.Optional(Type.String({ maxLength: 512 })) },
        closed,
      ),
    ]),
    erasure: Type.Object({ allowed: Type.Boolean(), within_days: Type.Optional(Days) }, closed),
  },
  closed,
)
export type PublishedPolicy = Type.Static<typeof PublishedPolicy>

/** `policies.json` of the ConfigMap `signet-retention-policies`, as the ledger reads it (docs/retention.md). */
export const PublishedPolicies = Type.Object(
  { version: Type.Literal(1), policies: Type.Array(PublishedPolicy, { maxItems: 10_000 }) },
  closed,
)
export type PublishedPolicies = Type.Static<typeof PublishedPolicies>

const validator = Compile(PublishedPolicies)

/** Whether all texts in a value can be written down: in the chain, which takes Unicode only, and in a database, which takes no U+0000. */
export function isWritable(value: unknown): boolean {
  if (typeof value === 'string') return value.isWellFormed() && !value.includes('\0')
  if (typeof value !== 'object' || value === null) return true
  return Object.entries(value).every(([name, each]) => isWritable(name) && isWritable(each))
}

/** @throws SignetError CONFIG_INVALID naming `source` and the place, for another version too */
export function parsePublishedPolicies(text: string, source: string): PublishedPolicies {
  let value: unknown
  try {
    value = parseStrict(Buffer.from(text, 'utf8'))
  } catch (cause) {
    throw new SignetError('CONFIG_INVALID', `${source} is not strict JSON`, { cause })
  }
  if (!validator.Check(value)) {
    const fault = validator.Errors(value)[0]
    throw new SignetError(
      'CONFIG_INVALID',
      `${source}: ${fault?.instancePath || '/'} ${fault?.message ?? 'is not valid'}`,
    )
  }
  if (!isWritable(value))
    throw new SignetError('CONFIG_INVALID', `${source} holds a text that is no Unicode, or U+0000`)
  const bad = value.policies.find(({ hot_days, archive_days }) => archive_days < hot_days)
  if (bad !== undefined)
    throw new SignetError(
      'CONFIG_INVALID',
      `${source}: archive_days of the policy ${bad.name} is shorter than hot_days`,
    )
  return value
}

/** A policy as it is published. `spec` has been checked (`checkRetentionObject`). */
export function publishPolicy(
  named: { readonly name: string; readonly uid: string; readonly generation: number },
  spec: RetentionPolicySpec,
): PublishedPolicy {
  const { selector, purge, legalHold, erasure } = spec
  return {
    ...named,
    selector: {
      ...(selector?.tenants === undefined ? {} : { tenants: selector.tenants }),
      ...(selector?.dataDomains === undefined ? {} : { data_domains: selector.dataDomains }),
      ...(selector?.regions === undefined ? {} : { regions: selector.regions }),
      ...(selector?.frameworks === undefined ? {} : { frameworks: selector.frameworks }),
    },
    hot_days: durationDays(spec.hot),
    archive_days: durationDays(spec.archive),
    purge: { mode: purge?.mode ?? 'whenArchived', keep_summary: purge?.keepSummary ?? true },
    legal_hold:
      legalHold?.active === true
        ? {
            reason: legalHold.reason ?? '',
            ...(legalHold.reference === undefined ? {} : { reference: legalHold.reference }),
          }
        : null,
    erasure: {
      allowed: erasure?.allowed ?? false,
      ...(erasure?.within === undefined ? {} : { within_days: durationDays(erasure.within) }),
    },
  }
}
