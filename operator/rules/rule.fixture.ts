import type { ComplianceRuleSpec } from '#core/rule/model.ts'
import type { RuleView } from './gather.ts'

export function ruleView(
  name: string,
  options: {
    namespace?: string
    generation?: number
    uid?: string
    spec?: Partial<ComplianceRuleSpec>
    status?: RuleView['status']
  } = {},
): RuleView {
  const { namespace = 'payments', generation = 1, uid = `uid-${name}` } = options
  return {
    metadata: { name, namespace, generation, uid, resourceVersion: `${generation}` },
    spec: {
      description: 'No server errors',
      severity: 'low',
      conditions: { all: [{ fact: 'response.status', operator: 'lessThan', value: 500 }] },
      ...options.spec,
    },
    ...(options.status === undefined ? {} : { status: options.status }),
  }
}
