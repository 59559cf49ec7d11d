import Type from 'typebox'
import { Compile } from 'typebox/compile'
import { Approval, approvalFault } from '../policy/approval.ts'
import { Block, blockFault } from '../policy/block.ts'

/** Of each list of an object, which etcd holds up to 1.5 MiB of. */
export const MAX_ENTRIES = 200

/**
 * `spec` of a PolicyData: some of what rules are applied to for a tenant (`docs/reference/policy-data.md`). A tenant may have many of them, which hold
 * together; only those of the operator's namespace count.
 */
export const PolicyDataSpec = Type.Object(
  {
    tenant: Type.String({
      minLength: 1,
      maxLength: 253,
      description: 'Whose it is: proxies of other tenants do not see it.',
    }),
    approvals: Type.Optional(
      Type.Array(Approval, {
        maxItems: MAX_ENTRIES,
        description: 'What people agreed to let out, each until a time.',
      }),
    ),
    blocks: Type.Optional(
      Type.Array(Block, {
        maxItems: MAX_ENTRIES,
        description: 'Agents and routes that get no answers, each until a time.',
      }),
    ),
  },
  { additionalProperties: false },
)
export type PolicyDataSpec = Type.Static<typeof PolicyDataSpec>

const validator = Compile(PolicyDataSpec)

export function isPolicyData(value: unknown): value is PolicyDataSpec {
  if (!validator.Check(value)) return false
  const faults = [...(value.approvals ?? []).map(approvalFault), ...(value.blocks ?? []).map(blockFault)]
  return faults.every((fault) => fault === null)
}
