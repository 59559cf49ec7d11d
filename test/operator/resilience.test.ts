import { readFile, writeFile } from 'node:fs/promises'
import path from 'node:path'
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'
import type { KubernetesClient } from '#operator/kubernetes/client.ts'
import { startApiServer, type TestApiServer } from '#test/support/api-server.ts'
import { kubeconfigFor } from '#test/support/kubernetes/kubeconfig.ts'
import {
  administrator,
  condition,
  eventually,
  followRules,
  OPERATOR_NAMESPACE,
  startOperatorProcess,
  type OperatorProcess,
} from '#test/support/operator-process.ts'

/** How many of the promised 3,500 rules; all of them with SIGNET_TEST_RULES=3500. */
const RULES = Number(process.env['SIGNET_TEST_RULES'] ?? 350)
const NAMESPACES = 10
/** What a replica may have, by the chart. */
const MAX_RSS_BYTES = 1_073_741_824

let server: TestApiServer
let client: KubernetesClient
let operator: OperatorProcess | undefined
let rules: ReturnType<typeof followRules>

beforeAll(async () => {
  server = await startApiServer({ crds: true })
  client = administrator(server)
  for (const namespace of [OPERATOR_NAMESPACE, 'payments']) await server.createNamespace(namespace)
  rules = followRules(client)
})
afterEach(async () => {
  await operator?.kill()
  operator = undefined
})
afterAll(async () => {
  await rules?.stop()
  await client?.close()
  await server?.stop()
})

function rule(name: string, namespace: string, limit = 500): object {
  return {
    apiVersion: 'signet.dev/v1alpha1',
    kind: 'ComplianceRule',
    metadata: { name, namespace },
    spec: {
      description: `Rule ${name}`,
      severity: 'low',
      conditions: { all: [{ fact: 'response.status', operator: 'lessThan', value: limit }] },
    },
  }
}

const apply = (...objects: object[]): Promise<string> =>
  server.kubectl(['apply', '-f', '-'], JSON.stringify({ apiVersion: 'v1', kind: 'List', items: objects }))

const isDistributed = (key: string): boolean => condition(rules.latest(key), 'Distributed') === 'True NoProxies'

async function leading(
  name: string,
  env: Record<string, string> = {},
  at: Pick<TestApiServer, 'kubeconfig'> = server,
): Promise<OperatorProcess> {
  const started = await startOperatorProcess(at, name, env)
  operator = started
  await started.listening
  await eventually('it leads', async () => (await started.metric('signet_operator_leader')) === 1)
  return started
}

describe('an operator survives', () => {
  it('an API server that is restarted, and goes on with what came meanwhile', async () => {
    const running = await leading('steady')
    await apply(rule('before', 'payments'))
    await eventually('before', () => isDistributed('payments/before'))
    await server.restart()
    await apply(rule('after', 'payments'))
    await eventually('after', () => isDistributed('payments/after'), 60_000)
    expect(running.running).toBe(true)
    await eventually('it leads again', async () => (await running.metric('signet_operator_leader')) === 1)
    // It may have lost the lease meanwhile (3 s here), and then leads in another term; it has not crashed or stopped.
    expect(running.log.filter((line) => line['log.level'] === 'fatal')).toEqual([])
  })

  it('a store that was restarted and compacted: watches are told 410 and begin again', async () => {
    const running = await leading('steady')
    await apply(rule('first', 'payments'))
    await eventually('first', () => isDistributed('payments/first'))
    for (let change = 0; change < 5; change++) await apply(rule('first', 'payments', 400 + change))
    await server.compact()
    await server.restart({ etcd: true })
    await apply(rule('second', 'payments'))
    await server.kubectl(['-n', 'payments', 'delete', 'compliancerule', 'first'])
    await eventually('second', () => isDistributed('payments/second'), 60_000)
    expect(running.running).toBe(true)
    await eventually(
      'no handler failed',
      async () => (await running.metric('signet_operator_informer_handler_failures_total')) === null,
    )
  })

  it('rules that the schema would not have let in', async () => {
    // As an older CRD might have: the schema is opened for a moment.
    const open = JSON.stringify([
      {
        op: 'replace',
        path: '/spec/versions/0/schema/openAPIV3Schema',
        value: { type: 'object', 'x-kubernetes-preserve-unknown-fields': true },
      },
    ])
    const running = await leading('steady')
    await server.kubectl(['patch', 'crd', 'compliancerules.signet.dev', '--type=json', '-p', open])
    const odd: object[] = [
      { spec: {} },
      { spec: { description: 7, severity: 'low' } },
      { spec: { description: 'x', severity: 'low', conditions: {}, rego: 'package x' } },
      { spec: { description: 'x', severity: 'low', rego: `package x\n${'y := 1\n'.repeat(9_000)}` } },
      { spec: { description: 'x', severity: 'low', conditions: { all: 'nonsense' } } },
    ].map((content, index) => ({
      apiVersion: 'signet.dev/v1alpha1',
      kind: 'ComplianceRule',
      metadata: { name: `odd-${index}`, namespace: 'payments' },
      ...content,
    }))
    for (const object of odd)
      await eventually('stored', () =>
        apply(object).then(
          () => true,
          () => false,
        ),
      )
    await apply(rule('sane', 'payments'))
    await eventually('the sane one', () => isDistributed('payments/sane'), 60_000)
    for (const index of odd.keys()) {
      await eventually(`odd-${index} is told`, () => {
        const latest = rules.latest(`payments/odd-${index}`)
        return (
          condition(latest, 'Accepted')?.startsWith('False') === true ||
          condition(latest, 'Compiled')?.startsWith('False') === true
        )
      })
    }
    expect(running.running).toBe(true)
    await server.kubectl(['-n', 'payments', 'delete', 'compliancerule', '--all'])
  })
})

describe('with the rights of docs/operator.md and no others', () => {
  it('everything works, and nothing is refused', async () => {
    const subject = { kind: 'ServiceAccount', name: 'signet-operator', namespace: OPERATOR_NAMESPACE }
    await server.createServiceAccount(OPERATOR_NAMESPACE, 'signet-operator')
    const { cluster, own } = await permissions()
    const api = 'rbac.authorization.k8s.io'
    const reference = (kind: string): object => ({ apiGroup: api, kind, name: 'signet-operator' })
    const named = (kind: string, rest: object, namespace?: string): object => ({
      apiVersion: `${api}/v1`,
      kind,
      metadata: { name: 'signet-operator', ...(namespace === undefined ? {} : { namespace }) },
      ...rest,
    })
    await apply(
      named('ClusterRole', { rules: cluster }),
      named('ClusterRoleBinding', { roleRef: reference('ClusterRole'), subjects: [subject] }),
      named('Role', { rules: own }, OPERATOR_NAMESPACE),
      named('RoleBinding', { roleRef: reference('Role'), subjects: [subject] }, OPERATOR_NAMESPACE),
    )
    const token = (await server.kubectl(['-n', OPERATOR_NAMESPACE, 'create', 'token', 'signet-operator'])).trim()
    const kubeconfig = path.join(path.dirname(server.kubeconfig), 'operator-kubeconfig')
    await writeFile(kubeconfig, kubeconfigFor(server.url, server.ca, token), { mode: 0o600 })

    const running = await leading('restricted', {}, { kubeconfig })
    await apply(rule('modest', 'payments'), rule('root-modest', OPERATOR_NAMESPACE))
    await server.kubectl(
      ['apply', '-f', '-'],
      JSON.stringify({
        apiVersion: 'signet.dev/v1alpha1',
        kind: 'RetentionPolicy',
        metadata: { name: 'modest', namespace: OPERATOR_NAMESPACE },
        spec: { hot: '90d', archive: '7y' },
      }),
    )
    for (const key of ['payments/modest', `${OPERATOR_NAMESPACE}/root-modest`])
      await eventually(key, () => isDistributed(key))
    await eventually('the policies', async () => {
      const found = await server.request(
        'GET',
        `/api/v1/namespaces/${OPERATOR_NAMESPACE}/configmaps/signet-retention-policies`,
      )
      return found.text.includes('modest')
    })
    await server.kubectl(['-n', OPERATOR_NAMESPACE, 'delete', 'secret', 'signet-ledger-tls'])
    await eventually('a certificate again', async () => {
      const found = await server.request('GET', `/api/v1/namespaces/${OPERATOR_NAMESPACE}/secrets/signet-ledger-tls`)
      return found.status === 200
    })
    const refused = running.log.filter((line) => JSON.stringify(line).includes('forbidden'))
    expect(refused.map((line) => JSON.stringify(line).slice(0, 400))).toEqual([])
  })
})

describe(`${RULES} rules`, () => {
  it('are reconciled from nothing, in bounded memory, and one change is published soon', async () => {
    const namespaces = Array.from({ length: NAMESPACES }, (_, index) => `many-${index}`)
    for (const namespace of namespaces) await server.createNamespace(namespace)
    const all = Array.from({ length: RULES }, (_, index) =>
      rule(`rule-${index}`, `many-${index % NAMESPACES}`, 500 + (index % 50)),
    )
    for (let from = 0; from < all.length; from += 500) await apply(...all.slice(from, from + 500))
    const running = await leading('busy')
    await eventually(
      'all distributed',
      () =>
        [...rules.all()]
          .filter((each) => each.metadata.namespace?.startsWith('many-'))
          .every((each) => condition(each, 'Distributed') === 'True NoProxies'),
      240_000,
    )
    expect(await running.metric('signet_operator_rules', { state: 'in_force' })).toBeGreaterThanOrEqual(RULES)
    // Each rule's status was written once: the first had all that there was to say.
    const writes = [...rules.all()].map(
      ({ metadata }) => rules.versions(`${metadata.namespace}/${metadata.name}`).length,
    )
    expect(Math.max(...writes)).toBeLessThanOrEqual(3)

    const startedMs = performance.now()
    await apply(rule('rule-0', 'many-0', 450))
    await eventually(
      'compiled',
      () => {
        const latest = rules.latest('many-0/rule-0')
        return latest?.metadata.generation === 2 && condition(latest, 'Compiled') === 'True Compiled'
      },
      20_000,
    )
    expect(performance.now() - startedMs).toBeLessThan(15_000)
    expect(await running.metric('process_resident_memory_bytes')).toBeLessThan(MAX_RSS_BYTES)
    const code = await running.stop()
    expect([code, code === 0 ? '' : JSON.stringify(running.log.slice(-5))]).toEqual([0, ''])
  })
})

type PolicyRule = { apiGroups: string[]; resources: string[]; resourceNames?: string[]; verbs: string[] }

/** The table of docs/operator.md as RBAC rules. */
async function permissions(): Promise<{ cluster: PolicyRule[]; own: PolicyRule[] }> {
  const page = await readFile(path.resolve(import.meta.dirname, '../../docs/operator.md'), 'utf8')
  const found: { cluster: PolicyRule[]; own: PolicyRule[] } = { cluster: [], own: [] }
  for (const [, where, group = '', resources = '', names = '', verbs = ''] of page.matchAll(
    /^\| (cluster|own) \|([^|]+)\|([^|]+)\|([^|]*)\|([^|]+)\|/gm,
  )) {
    const ticked = (text: string): string[] => [...text.matchAll(/`([^`]+)`/g)].map(([, name = '']) => name)
    const resourceNames = ticked(names)
    found[where === 'own' ? 'own' : 'cluster'].push({
      apiGroups: group.includes('core') ? [''] : ticked(group),
      resources: ticked(resources),
      verbs: verbs.split(',').map((verb) => verb.trim()),
      ...(resourceNames.length === 0 ? {} : { resourceNames }),
    })
  }
  expect(found.cluster.length).toBeGreaterThan(5)
  expect(found.own.length).toBeGreaterThan(3)
  return found
}
