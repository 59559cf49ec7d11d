import Type from 'typebox'
import { Compile } from 'typebox/compile'
import { SignetError } from '#core/error/signet-error.ts'
import type { JsonObject } from '#core/json/value.ts'
import { RULE_MODES } from '#core/policy/manifest.ts'
import { Channel, Classification, Digest } from '#core/stamp/schema.ts'

const Name = Type.String({ minLength: 1, maxLength: 512 })
const Template = Type.String({ pattern: '^/', maxLength: 2048 })
const Until = Type.String({ pattern: '^\\d{4}-\\d{2}-\\d{2}T\\d{2}:\\d{2}:\\d{2}(\\.\\d{1,3})?Z$' })
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
    approvals: Type.Optional(
      Type.Array(
        Type.Object(
          {
            id: Name,
            resource: Template,
            version: Type.Optional(Name),
            digest: Type.Optional(Digest),
            channel: Channel,
            approved_by: Name,
            expires_at: Until,
          },
          { additionalProperties: false },
        ),
        { maxItems: 10_000 },
      ),
    ),
    blocks: Type.Optional(
      Type.Array(
        Type.Object(
          {
            id: Name,
            kind: Type.Enum(['agent', 'route']),
            /** The agent, as callers or workloads are called; the template of a route. */
            value: Type.String({ minLength: 1, maxLength: 2048 }),
            /** Of a route; any where it is left out. */
            method: Type.Optional(Type.String({ pattern: '^[A-Z]+$', maxLength: 32 })),
            expires_at: Until,
          },
          { additionalProperties: false },
        ),
        { maxItems: 10_000 },
      ),
    ),
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
export type ApprovalData = NonNullable<PolicyData['approvals']>[number]
export type BlockData = NonNullable<PolicyData['blocks']>[number]
/** What governance publishes beside the rules. */
export type BundledData = { readonly approvals: readonly ApprovalData[]; readonly blocks: readonly BlockData[] }

const validator = Compile(PolicyData)

function explain(error: { keyword: string; message: string }): string {
  return error.keyword === 'boolean' ? 'there is no such member' : error.message
}

/** The release approvals and blocks that governance publishes in `data.policy` of a bundle. Throws POLICY_DATA_INVALID. */
export function bundledData({ approvals = [], blocks = [] }: JsonObject): BundledData {
  const data = parsePolicyData(JSON.stringify({ version: 1, approvals, blocks }))
  return { approvals: data.approvals ?? [], blocks: data.blocks ?? [] }
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
  for (const [i, approval] of (value.approvals ?? []).entries()) {
    // An approval of whatever a route may ever answer would approve what nobody has seen.
    if (approval.version === undefined && approval.digest === undefined) {
      throw new SignetError(
        'POLICY_DATA_INVALID',
        `The policy data is invalid at «/approvals/${i}»: an approval names a version or a digest of what it approves`,
      )
    }
    requireDate(approval.expires_at, `/approvals/${i}/expires_at`)
  }
  for (const [i, block] of (value.blocks ?? []).entries()) {
    requireDate(block.expires_at, `/blocks/${i}/expires_at`)
    if (block.kind === 'route' && !block.value.startsWith('/'))
      throw new SignetError(
        'POLICY_DATA_INVALID',
        `The policy data is invalid at «/blocks/${i}/value»: a route begins with /`,
      )
  }
  return value
}

function requireDate(text: string, where: string): void {
  if (Number.isNaN(Date.parse(text)))
    throw new SignetError('POLICY_DATA_INVALID', `The policy data is invalid at «${where}»: not a date`)
}
