import type { TestNode } from '#test/support/node.ts'
import { NAMESPACE } from './workload.ts'

type RuleStatus = {
  observedGeneration?: number
  conditions?: { type: string; status: string; reason: string; message: string; observedGeneration?: number }[]
  revision?: string
  distribution?: { expected: number; current: number }
}
export type RuleObject = { metadata: { generation: number }; status?: RuleStatus }

/** `kubectl apply`. @returns what kubectl said */
export function apply(node: TestNode, object: object): Promise<string> {
  return node.kubectl(['apply', '--filename', '-'], JSON.stringify(object))
}

export async function readRule(node: TestNode, name: string): Promise<RuleObject> {
  const answer = await node.request('GET', `/apis/signet.dev/v1alpha1/namespaces/${NAMESPACE}/compliancerules/${name}`)
  if (answer.status !== 200) throw new Error(`rule ${name}: ${answer.status} ${answer.text}`)
  return answer.json<RuleObject>()
}

/** Waits until the status says that the rule as it is now is accepted, compiled, and with every proxy. @returns its revision */
export function waitForDistribution(node: TestNode, name: string, proxies: number): Promise<string> {
  return node.waitFor(`rule ${name} is with ${proxies} proxies`, async () => {
    const { metadata, status = {} } = await readRule(node, name)
    const holds = ['Accepted', 'Compiled', 'Distributed'].every((type) =>
      status.conditions?.some(
        (one) => one.type === type && one.status === 'True' && one.observedGeneration === metadata.generation,
      ),
    )
    const { expected, current } = status.distribution ?? {}
    if (!holds || status.observedGeneration !== metadata.generation || expected !== proxies || current !== proxies) {
      throw new Error(JSON.stringify(status))
    }
    return status.revision
  })
}

/** Who leads: the holder of the operator's Lease. */
export async function readLeader(node: TestNode, namespace: string): Promise<string> {
  const answer = await node.request(
    'GET',
    `/apis/coordination.k8s.io/v1/namespaces/${namespace}/leases/signet-operator`,
  )
  return answer.json<{ spec: { holderIdentity?: string } }>().spec.holderIdentity ?? ''
}
