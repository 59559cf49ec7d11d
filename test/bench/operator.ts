// How soon a changed rule is published, and what the operator needs for it, on a real API server.
// node test/bench/operator.ts [--rules 200,3500] [--changes 40] [--root]
import { parseArgs } from 'node:util'
import { systemClock } from '#operator/clock.ts'
import type { KubernetesClient } from '#operator/kubernetes/client.ts'
import { MERGE_PATCH } from '#operator/kubernetes/client.ts'
import { createInformer } from '#operator/kubernetes/informer.ts'
import type { KubernetesObject } from '#operator/kubernetes/object.ts'
import { startApiServer, type TestApiServer } from '#test/support/api-server.ts'
import {
  administrator,
  condition,
  eventually,
  followRules,
  OPERATOR_NAMESPACE,
  startOperatorProcess,
  type OperatorProcess,
} from '#test/support/operator-process.ts'

/** Rules of a namespace, where they are not all root's. */
const RULES_A_NAMESPACE = 50
const MiB = 1_048_576

type Result = {
  readonly rules: number
  readonly where: string
  readonly firstSeconds: number
  readonly statusSeconds: number
  readonly publishedMs: { readonly p50: number; readonly p99: number; readonly max: number }
  readonly rssMiB: { readonly settled: number; readonly max: number }
}

const { values } = parseArgs({
  options: {
    rules: { type: 'string', default: '200,3500' },
    changes: { type: 'string', default: '40' },
    root: { type: 'boolean', default: false },
  },
})
for (const count of values.rules.split(',').map(Number)) {
  const result = await measure(count, Number(values.changes), values.root)
  process.stdout.write(`${JSON.stringify(result)}\n`)
}

async function measure(count: number, changes: number, root: boolean): Promise<Result> {
  const server = await startApiServer({ crds: true })
  const client = administrator(server)
  let operator: OperatorProcess | undefined
  const rules = followRules(client)
  const revisions = followRevisions(client)
  try {
    const namespaces = root
      ? [OPERATOR_NAMESPACE]
      : Array.from({ length: Math.ceil(count / RULES_A_NAMESPACE) }, (_, i) => `team-${i}`)
    await server.createNamespace(OPERATOR_NAMESPACE)
    for (const namespace of namespaces) await server.createNamespace(namespace)
    await createRules(server, count, namespaces)
    const startedMs = performance.now()
    operator = await startOperatorProcess(server, 'bench')
    const running = operator
    let max = 0
    const sample = async (): Promise<number> => {
      const rss = (await running.metric('process_resident_memory_bytes').catch(() => 0)) ?? 0
      max = Math.max(max, rss)
      return rss
    }
    const sampling = setInterval(() => void sample(), 250)
    await eventually(
      `${count} rules in force`,
      async () => ((await running.metric('signet_operator_rules', { state: 'in_force' }).catch(() => 0)) ?? 0) >= count,
      900_000,
    )
    const firstSeconds = (performance.now() - startedMs) / 1000
    await eventually(
      'all statuses',
      () => [...rules.all()].every((rule) => condition(rule, 'Distributed') === 'True NoProxies'),
      300_000,
    )
    const statusSeconds = (performance.now() - startedMs) / 1000
    const latencies: number[] = []
    for (let change = 0; change < changes; change++) {
      const index = Math.floor((change * count) / changes)
      const namespace = namespaces[index % namespaces.length]!
      const before = revisions.of(namespace)
      const atMs = performance.now()
      await patchRule(client, namespace, `rule-${index}`, 100 + change)
      latencies.push(await revisions.next(namespace, before, atMs))
    }
    latencies.sort((a, b) => a - b)
    const settled = await sample()
    clearInterval(sampling)
    return {
      rules: count,
      where: root ? 'root' : `${namespaces.length} namespaces`,
      firstSeconds: round(firstSeconds),
      statusSeconds: round(statusSeconds),
      publishedMs: {
        p50: round(latencies[Math.floor(latencies.length / 2)] ?? 0),
        p99: round(latencies[Math.ceil(latencies.length * 0.99) - 1] ?? 0),
        max: round(latencies.at(-1) ?? 0),
      },
      rssMiB: { settled: Math.round(settled / MiB), max: Math.round(max / MiB) },
    }
  } catch (error) {
    const trouble = operator?.log.filter((line) => line['log.level'] !== 'info').slice(-20) ?? []
    for (const line of trouble) process.stderr.write(`${JSON.stringify(line).slice(0, 1_000)}\n`)
    throw error
  } finally {
    await operator?.kill()
    await rules.stop()
    await revisions.stop()
    await client.close()
    await server.stop()
  }
}

/** Some two thirds are conditions, one third Rego of an author's own. */
async function createRules(server: TestApiServer, count: number, namespaces: readonly string[]): Promise<void> {
  const items = Array.from({ length: count }, (_, index) => {
    const body =
      index % 3 === 2
        ? {
            rego: `package custom\n\nimport rego.v1\n\ndecision := {"evaluated": true, "violations": violations}\n\nviolations contains {"message": "too many bytes"} if input.response.size > ${10_000 + index}\n`,
          }
        : { conditions: conditions(500 + (index % 90)) }
    return {
      apiVersion: 'signet.dev/v1alpha1',
      kind: 'ComplianceRule',
      metadata: { name: `rule-${index}`, namespace: namespaces[index % namespaces.length] },
      spec: {
        description: `Rule ${index} of the benchmark`,
        severity: 'low',
        match: { pathTemplates: [`/things/${index}/{id}`], methods: ['GET'] },
        ...body,
      },
    }
  })
  for (let from = 0; from < items.length; from += 500) {
    await server.kubectl(
      ['create', '-f', '-'],
      JSON.stringify({ apiVersion: 'v1', kind: 'List', items: items.slice(from, from + 500) }),
    )
  }
}

function conditions(limit: number): object {
  return {
    all: [
      { fact: 'response.status', operator: 'lessThan', value: limit },
      { fact: 'channel', operator: 'in', value: ['internal', 'external'] },
    ],
  }
}

async function patchRule(client: KubernetesClient, namespace: string, name: string, limit: number): Promise<void> {
  await client.request({
    method: 'PATCH',
    path: `/apis/signet.dev/v1alpha1/namespaces/${namespace}/compliancerules/${name}`,
    contentType: MERGE_PATCH,
    body: { spec: { rego: null, conditions: conditions(limit) } },
  })
}

type Revisions = {
  of(namespace: string): string | undefined
  /** Milliseconds from `sinceMs` until the namespace has another revision than `before`. */
  next(namespace: string, before: string | undefined, sinceMs: number): Promise<number>
  stop(): Promise<void>
}

function followRevisions(client: KubernetesClient): Revisions {
  const stopping = new AbortController()
  const seen = new Map<string, { revision: string; atMs: number }>()
  const informer = createInformer<KubernetesObject>({
    name: 'bench',
    client,
    path: `/api/v1/namespaces/${OPERATOR_NAMESPACE}/configmaps`,
    metadataOnly: true,
    keep: (object) => object,
    onChange: ({ after }) => {
      const name = after?.metadata.name ?? ''
      const revision = after?.metadata.annotations?.['signet.dev/revision']
      if (revision === undefined || seen.get(name)?.revision === revision) return
      seen.set(name, { revision, atMs: performance.now() })
    },
    clock: systemClock,
    random: Math.random,
  })
  const running = informer.run(stopping.signal)
  const of = (namespace: string): { revision: string; atMs: number } | undefined =>
    seen.get(`signet-bundles-${namespace}`)
  return {
    of: (namespace) => of(namespace)?.revision,
    async next(namespace, before, sinceMs) {
      await eventually(`a revision of ${namespace}`, () => of(namespace)?.revision !== before, 600_000)
      return (of(namespace)?.atMs ?? 0) - sinceMs
    },
    async stop() {
      stopping.abort()
      await running
    },
  }
}

function round(value: number): number {
  return Math.round(value * 10) / 10
}
