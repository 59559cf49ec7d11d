import { fork, type ChildProcess } from 'node:child_process'
import path from 'node:path'
import { createKubernetesClient, type KubernetesClient } from '#operator/kubernetes/client.ts'
import { readCredentials } from '#operator/kubernetes/credentials.ts'
import { createInformer } from '#operator/kubernetes/informer.ts'
import { systemClock } from '#operator/clock.ts'
import type { ComplianceRuleStatus } from '#core/rule/model.ts'
import type { ObjectMeta } from '#operator/kubernetes/object.ts'
import { ensureOpa } from '#tools/opa/build.ts'
import type { TestApiServer } from './api-server.ts'
import { freePort } from './real-services.ts'

export const OPERATOR_NAMESPACE = 'signet-system'

export type OperatorProcess = {
  readonly name: string
  /** Address of webhooks and bundles, `127.0.0.1:PORT`; resolves once they listen. */
  readonly listening: Promise<{ webhooks: string; bundles: string }>
  /** `ready` or what is missing. */
  readiness(): Promise<string>
  /** Sum of the samples of a metric that have these labels; null where there is none. */
  metric(name: string, labels?: Readonly<Record<string, string>>): Promise<number | null>
  /** Its log, line by line, parsed. */
  readonly log: Record<string, unknown>[]
  readonly exited: Promise<number | null>
  readonly running: boolean
  /** SIGTERM; resolves to the exit status. */
  stop(): Promise<number | null>
  /** SIGKILL. */
  kill(): Promise<void>
}

/** Starts an operator as a process of its own against a test's API server. */
export async function startOperatorProcess(
  server: Pick<TestApiServer, 'kubeconfig'>,
  name: string,
  env: Readonly<Record<string, string>> = {},
): Promise<OperatorProcess> {
  const admin = await freePort()
  const child = fork(path.resolve(import.meta.dirname, '../../operator/main.ts'), {
    env: {
      PATH: process.env['PATH'],
      HOME: process.env['HOME'],
      KUBECONFIG: server.kubeconfig,
      SIGNET_NAMESPACE: OPERATOR_NAMESPACE,
      SIGNET_POD_NAME: name,
      SIGNET_WEBHOOKS_LISTEN: '127.0.0.1:0',
      SIGNET_BUNDLES_LISTEN: '127.0.0.1:0',
      SIGNET_ADMIN_LISTEN: `127.0.0.1:${admin}`,
      SIGNET_OPA: await ensureOpa(),
      SIGNET_LEASE_MS: '3000',
      ...env,
    },
    stdio: ['ignore', 'pipe', 'pipe', 'ipc'],
  })
  const log: Record<string, unknown>[] = []
  collect(child, log)
  const exited = new Promise<number | null>((resolve) => child.once('exit', (code) => resolve(code)))
  const listening = new Promise<{ webhooks: string; bundles: string }>((resolve, reject) => {
    child.on('message', (message: { listening?: Record<string, string> }) => {
      const { SIGNET_WEBHOOKS_LISTEN: webhooks, SIGNET_BUNDLES_LISTEN: bundles } = message.listening ?? {}
      if (webhooks !== undefined && bundles !== undefined) resolve({ webhooks, bundles })
    })
    void exited.then((code) => reject(new Error(`${name} ended with ${code}: ${JSON.stringify(log.slice(-5))}`)))
  })
  listening.catch(() => {})
  return {
    name,
    listening,
    log,
    exited,
    async readiness() {
      const answer = await fetch(`http://127.0.0.1:${admin}/readyz`).catch(() => null)
      return answer === null ? 'it does not listen' : (await answer.text()).trim()
    },
    async metric(metric, labels = {}) {
      const text = await (await fetch(`http://127.0.0.1:${admin}/metrics`)).text()
      return sampleSum(text, metric, labels)
    },
    get running() {
      return child.exitCode === null && child.signalCode === null
    },
    async stop() {
      child.kill('SIGTERM')
      return exited
    },
    async kill() {
      child.kill('SIGKILL')
      await exited
    },
  }
}

/** The API server's administrator, as the operator's own client. */
export function administrator(server: Pick<TestApiServer, 'kubeconfig'>): KubernetesClient {
  return createKubernetesClient(readCredentials({ kubeconfig: server.kubeconfig }), { userAgent: 'signet-test' })
}

export type RuleObjectView = { readonly metadata: ObjectMeta; readonly status?: ComplianceRuleStatus }

/** Follows the rules of a cluster; every stored version of each is kept, so that writes can be counted. */
export function followRules(client: KubernetesClient): {
  /** Versions of a rule that were seen, oldest first. */
  versions(key: string): readonly RuleObjectView[]
  latest(key: string): RuleObjectView | undefined
  readonly size: number
  all(): IterableIterator<RuleObjectView>
  stop(): Promise<void>
} {
  const stopping = new AbortController()
  const seen = new Map<string, RuleObjectView[]>()
  const informer = createInformer<RuleObjectView>({
    name: 'test',
    client,
    path: '/apis/signet.dev/v1alpha1/compliancerules',
    keep: (rule) => rule,
    onChange: ({ key, after }) => {
      if (after !== undefined) seen.set(key, [...(seen.get(key) ?? []), after])
    },
    clock: systemClock,
    random: Math.random,
  })
  const running = informer.run(stopping.signal)
  return {
    versions: (key) => seen.get(key) ?? [],
    latest: (key) => informer.get(key),
    get size() {
      return informer.size
    },
    all: () => informer.values(),
    async stop() {
      stopping.abort()
      await running
    },
  }
}

/** `True Valid`, or undefined where the condition is not there or speaks of another generation. */
export function condition(rule: RuleObjectView | undefined, type: string): string | undefined {
  const conditions: unknown = rule?.status?.conditions
  // Somebody may have written anything there.
  if (!Array.isArray(conditions)) return undefined
  const found = (conditions as NonNullable<ComplianceRuleStatus['conditions']>).find((each) => each.type === type)
  if (found === undefined || found.observedGeneration !== rule?.metadata.generation) return undefined
  return `${found.status} ${found.reason}`
}

/** Waits until `check` gives something true. @throws after `timeoutMs` with `what` */
export async function eventually<T>(
  what: string,
  check: () => T | Promise<T>,
  timeoutMs = 30_000,
): Promise<NonNullable<Exclude<T, false>>> {
  const deadline = performance.now() + timeoutMs
  for (;;) {
    const value = await check()
    if (value) return value as NonNullable<Exclude<T, false>>
    if (performance.now() > deadline) throw new Error(`it did not happen within ${timeoutMs} ms: ${what}`)
    await new Promise((resolve) => setTimeout(resolve, 50))
  }
}

function collect(child: ChildProcess, log: Record<string, unknown>[]): void {
  for (const stream of [child.stdout, child.stderr]) {
    let rest = ''
    stream?.setEncoding('utf8').on('data', (chunk: string) => {
      const lines = (rest + chunk).split('\n')
      rest = lines.pop() ?? ''
      for (const line of lines) {
        try {
          log.push(JSON.parse(line) as Record<string, unknown>)
        } catch {
          log.push({ message: line })
        }
      }
    })
  }
}

function sampleSum(text: string, metric: string, labels: Readonly<Record<string, string>>): number | null {
  let sum: number | null = null
  for (const line of text.split('\n')) {
    const [, name, shown = '', value] = /^([a-z_]+)(\{[^}]*\})? ([^ ]+)/.exec(line) ?? []
    if (name !== metric || !Object.entries(labels).every(([key, want]) => shown.includes(`${key}="${want}"`))) continue
    sum = (sum ?? 0) + Number(value)
  }
  return sum
}
