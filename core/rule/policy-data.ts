import Type from 'typebox'
import { Compile } from 'typebox/compile'
import { Approval, approvalFault } from '../policy/approval.ts'

/** Of an object, which etcd holds up to 1.5 MiB of. */
export const MAX_APPROVALS = 200

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
        maxItems: MAX_APPROVALS,
        description: 'What people agreed to let out, each until a time.',
      }),
    ),
  },
  { additionalProperties: false },
)
export type PolicyDataSpec = Type.Static<typeof PolicyDataSpec>

const validator = Compile(PolicyDataSpec)

export function isPolicyData(value: unknown): value is PolicyDataSpec {
  return validator.Check(value) && (value.approvals ?? []).every((approval) => approvalFault(approval) === null)
}
