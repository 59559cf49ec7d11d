import { Compile } from 'typebox/compile'
import { RetentionPolicyStatus, type RetentionPolicySpec } from '#core/rule/model.ts'
import type { ObjectMeta } from '#operator/kubernetes/object.ts'
import { keepSpec, keepStatus } from '#operator/rules/gather.ts'

/** What the operator keeps of a RetentionPolicy. */
export type PolicyView = {
  readonly metadata: ObjectMeta & { readonly namespace: string }
  readonly spec: RetentionPolicySpec
  readonly status?: RetentionPolicyStatus
}

const statusChecker = Compile(RetentionPolicyStatus)

export function keepPolicy(policy: PolicyView): PolicyView {
  const { name, namespace, uid, resourceVersion, generation } = policy.metadata
  return {
    metadata: {
      name,
      namespace,
      ...(uid === undefined ? {} : { uid }),
      ...(resourceVersion === undefined ? {} : { resourceVersion }),
      ...(generation === undefined ? {} : { generation }),
    },
    spec: keepSpec(policy.spec),
    ...keepStatus(policy.status, statusChecker),
  }
}

/** All policies, in an order that does not depend on how they came. */
export function gatherPolicies(policies: Iterable<PolicyView>): PolicyView[] {
  const key = ({ metadata }: PolicyView): string => `${metadata.namespace}/${metadata.name}`
  return [...policies].sort((a, b) => (key(a) < key(b) ? -1 : 1))
}
