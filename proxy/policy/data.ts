import Type from 'typebox'
import { Compile } from 'typebox/compile'
import { SignetError } from '#core/error/signet-error.ts'
import type { JsonObject, JsonValue } from '#core/json/value.ts'
import { Approval, approvalFault } from '#core/policy/approval.ts'
import { Block, blockFault } from '#core/policy/block.ts'
import { RULE_MODES } from '#core/policy/manifest.ts'
import { Classification } from '#core/stamp/schema.ts'

const Name = Type.String({ minLength: 1, maxLength: 512 })
const Template = Type.String({ pattern: '^/', maxLength: 2048 })
const Mode = Type.Object(
  { mode: Type.Enum(RULE_MODES), percentage: Type.Optional(Type.Integer({ minimum: 0, maximum: 100 })) },
  { additionalProperties: false },
)

/**
 * Policy data (`docs/reference/policy-data.md`): what the rules of a bundle are applied to here. Besides the approvals that come
 * with a bundle it is a file that an operator edits. Closed: a misspelt member is an error, not a rule that silently lapsed.
 */
export const PolicyData = Type.Object(
  {
    version: Type.Literal(1),
    routes: Type.Optional(
      Type.Array(
        Type.Object(
          {
            template: Template,
            methods: Type.Optional(Type.Array(Type.String({ pattern: '^[A-Z]+$' }), { minItems: 1 })),
            classification: Type.Optional(Classification),
            regulations: Type.Optional(Type.Array(Type.String({ pattern: '^[A-Z0-9][A-Z0-9_.-]{0,63}$' }))),
            regions: Type.Optional(Type.Array(Name)),
          },
          { additionalProperties: false },
        ),
        { maxItems: 10_000 },
      ),
    ),
    approvals: Type.Optional(Type.Array(Approval, { maxItems: 10_000 })),
    blocks: Type.Optional(Type.Array(Block, { maxItems: 10_000 })),
    modes: Type.Optional(
      Type.Object(
        {
          tenants: Type.Optional(Type.Record(Name, Mode)),
          rules: Type.Optional(Type.Record(Name, Mode)),
        },
        { additionalProperties: false },
      ),
    ),
    flags: Type.Optional(
      Type.Object(
        {
          'compliance.stamps.v1': Type.Optional(Type.Boolean()),
          'audit.enhanced.v1': Type.Optional(Type.Boolean()),
        },
        { additionalProperties: false },
      ),
    ),
  },
  { additionalProperties: false },
)
export type PolicyData = Type.Static<typeof PolicyData>
export type ModeSetting = Type.Static<typeof Mode>
export type RouteData = NonNullable<PolicyData['routes']>[number]
/** What governance publishes beside the rules. */
export type BundledData = { readonly approvals: readonly Approval[]; readonly blocks: readonly Block[] }

const validator = Compile(PolicyData)

function explain(error: { keyword: string; message: string }): string {
  return error.keyword === 'boolean' ? 'there is no such member' : error.message
}

/**
 * The release approvals and blocks for `tenant` that come with a bundle: in `data.policy` of a bundle that is one tenant's, in `data.policy.tenants` of
 * one that is a namespace's, whose pods may be several tenants. Throws POLICY_DATA_INVALID.
 */
export function bundledData(policy: JsonObject, tenant: string): BundledData {
  const tenants = objectOr(policy['tenants'])
  const own = Object.hasOwn(tenants, tenant) ? objectOr(tenants[tenant]) : {}
  const parts = [policy, own].map(({ approvals = [], blocks = [] }) =>
    parsePolicyData(JSON.stringify({ version: 1, approvals, blocks })),
  )
  return {
    approvals: parts.flatMap(({ approvals = [] }) => approvals),
    blocks: parts.flatMap(({ blocks = [] }) => blocks),
  }
}

function objectOr(value: JsonValue | undefined): JsonObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value) ? value : {}
}

/** Parses policy data. Throws POLICY_DATA_INVALID naming the place and what is allowed. */
export function parsePolicyData(text: string): PolicyData {
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch (cause) {
    throw new SignetError('POLICY_DATA_INVALID', `The policy data is not JSON: ${(cause as Error).message}`, { cause })
  }
  if (!validator.Check(value)) {
    const [first] = validator.Errors(value)
    throw new SignetError(
      'POLICY_DATA_INVALID',
      `The policy data is invalid at «${first?.instancePath || '/'}»: ${first === undefined ? 'it does not fit the schema' : explain(first)}`,
    )
  }
  const faults = [
    ...(value.approvals ?? []).map((approval, i) => ({ at: `/approvals/${i}`, fault: approvalFault(approval) })),
    ...(value.blocks ?? []).map((block, i) => ({ at: `/blocks/${i}`, fault: blockFault(block) })),
  ]
  for (const { at, fault } of faults) {
    if (fault !== null)
      throw new SignetError('POLICY_DATA_INVALID', `The policy data is invalid at «${at}${fault.at}»: ${fault.message}`)
  }
  return value
}
