import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { request as send, Agent } from 'undici'
import type { AuditEvent } from '#core/audit/event.ts'
import { checkAuditEvent } from '#core/audit/validate.ts'
import type { KubernetesClient } from '#operator/kubernetes/client.ts'
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
import { freePort } from '#test/support/real-services.ts'

export const GOOD = { conditions: { all: [{ fact: 'response.status', operator: 'lessThan', value: 500 }] } }
/** Bytes that an attack may add to what the operator has in memory. */
const MAX_GROWTH_BYTES = 700 * 1024 * 1024

export type Answer = { readonly status: number; readonly text: string; readonly code: string | undefined }

/** An API server, an operator and a ledger that takes every event, for tests that do them harm. */
export type HostileStack = {
  readonly server: TestApiServer
  readonly client: KubernetesClient
  readonly rules: ReturnType<typeof followRules>
  operator: OperatorProcess
  /** What the ledger was sent, oldest first. */
  readonly events: AuditEvent[]
  /** Folder that goes with the stack. */
  readonly folder: string
  apply(namespace: string, name: string, spec: object): Promise<void>
  /** Waits until a rule's condition says this. */
  says(key: string, type: string, want: string, timeoutMs?: number): Promise<void>
  revision(namespace: string): Promise<string | undefined>
  metric: OperatorProcess['metric']
  /** Sends to a listener of the operator, and reads the problem's code. */
  call(to: 'bundles' | 'webhooks', url: string, options?: CallOptions): Promise<Answer>
  /**
   * Does harm, and asserts that the operator lives through it: its event loop answers within `maxPauseMs` all the while, its memory stays
   * in bounds, and a good rule that is applied afterwards is distributed within `goodMs`.
   */
  survives(harm: () => Promise<void>, options?: { maxPauseMs?: number; goodMs?: number }): Promise<void>
  restart(): Promise<void>
  stop(): Promise<void>
}
export type CallOptions = {
  readonly method?: 'GET' | 'POST' | 'PUT'
  readonly token?: string
  readonly headers?: Readonly<Record<string, string>>
  readonly body?: string | Buffer
}

export async function startHostileStack(
  namespaces: readonly string[],
  env: Readonly<Record<string, string>> = {},
): Promise<HostileStack> {
  const folder = await mkdtemp(path.join(tmpdir(), 'signet-hostile-'))
  const ledger = await startLedger()
  const server = await startApiServer({ crds: true })
  const client = administrator(server)
  for (const namespace of [OPERATOR_NAMESPACE, 'control', ...namespaces]) await server.createNamespace(namespace)
  const rules = followRules(client)
  const admin = await freePort()
  const tokenFile = path.join(folder, 'ledger-token')
  await writeFile(tokenFile, 'a-token')
  const start = async (): Promise<OperatorProcess> => {
    const operator = await startOperatorProcess(server, 'operator', {
      SIGNET_LEDGER_URL: ledger.url,
      SIGNET_LEDGER_TOKEN_FILE: tokenFile,
      SIGNET_ADMIN_LISTEN: `127.0.0.1:${admin}`,
      ...env,
    })
    await operator.listening
    await eventually('the operator leads', async () => (await metric('signet_operator_leader')) === 1)
    await eventually('it is ready', async () => (await text('/readyz')).trim() === 'ready')
    return operator
  }
  const text = async (at: string): Promise<string> => (await fetch(`http://127.0.0.1:${admin}${at}`)).text()
  const metric: OperatorProcess['metric'] = async (name, labels = {}) => {
    let sum: number | null = null
    for (const line of (await text('/metrics')).split('\n')) {
      const [, found, shown = '', value] = /^([a-z_]+)(\{[^}]*\})? ([^ ]+)/.exec(line) ?? []
      if (found !== name || !Object.entries(labels).every(([key, want]) => shown.includes(`${key}="${want}"`))) continue
      sum = (sum ?? 0) + Number(value)
    }
    return sum
  }
  const agent = new Agent({ connect: { rejectUnauthorized: false }, pipelining: 1 })
  let goods = 0
  const stack: HostileStack = {
    server,
    client,
    rules,
    operator: await start(),
    events: ledger.events,
    folder,
    async apply(namespace, name, spec) {
      const rule = {
        apiVersion: 'signet.dev/v1alpha1',
        kind: 'ComplianceRule',
        metadata: { name, namespace },
        spec: { description: `Rule ${name}`, severity: 'low', ...spec },
      }
      await server.kubectl(['apply', '--server-side', '--force-conflicts', '-f', '-'], JSON.stringify(rule))
    },
    async says(key, type, want, timeoutMs = 30_000) {
      await eventually(`${key} ${type}: ${want}`, () => condition(rules.latest(key), type) === want, timeoutMs).catch(
        (error: unknown) => {
          const conditions = JSON.stringify(rules.latest(key)?.status?.conditions)
          throw new Error(`${String(error)}; it says ${conditions}`, { cause: error })
        },
      )
    },
    async revision(namespace) {
      const at = `/api/v1/namespaces/${OPERATOR_NAMESPACE}/configmaps/signet-bundles-${namespace}`
      const answer = await server.request('GET', at)
      if (answer.status === 404) return undefined
      const { metadata } = answer.json<{ metadata: { annotations?: Record<string, string> } }>()
      return metadata.annotations?.['signet.dev/revision']
    },
    metric,
    async call(to, url, { method, token, headers, body } = {}) {
      const { [to]: address } = await stack.operator.listening
      const answer = await send(`https://${address}${url}`, {
        method: method ?? (body === undefined ? 'GET' : 'POST'),
        dispatcher: agent,
        headers: {
          ...(token === undefined ? {} : { authorization: `Bearer ${token}` }),
          ...(body === undefined ? {} : { 'content-type': 'application/json' }),
          ...headers,
        },
        body: body ?? null,
      })
      const said = await answer.body.text()
      return { status: answer.statusCode, text: said, code: /"code":"([A-Z_]+)"/.exec(said)?.[1] }
    },
    // The control namespace has used up its ten quick changes after a while (operator/rules/pace.ts): the next one may wait 30 s.
    async survives(harm, { maxPauseMs = 3_000, goodMs = 45_000 } = {}) {
      const before = (await metric('process_resident_memory_bytes'))!
      let most = before
      let worstMs = 0
      const over = new AbortController()
      const watch = (async () => {
        while (!over.signal.aborted) {
          const startedMs = performance.now()
          const answer = await text('/livez').catch(String)
          if (answer.trim() !== 'ok') throw new Error(`/livez says ${answer}`)
          worstMs = Math.max(worstMs, performance.now() - startedMs)
          most = Math.max(most, (await metric('process_resident_memory_bytes')) ?? 0)
          await new Promise((resolve) => setTimeout(resolve, 50))
        }
      })()
      const name = `good-${++goods}`
      const startedMs = await (async () => {
        try {
          await harm()
          const beganMs = performance.now()
          await stack.apply('control', name, GOOD)
          await stack.says(`control/${name}`, 'Distributed', 'True NoProxies', goodMs)
          return beganMs
        } finally {
          over.abort()
          await watch
        }
      })()
      const goodIn = Math.round(performance.now() - startedMs)
      const mib = (bytes: number): number => Math.round(bytes / 1_048_576)
      process.stdout.write(
        `survived: pause ${Math.round(worstMs)} ms, good rule ${goodIn} ms, ${mib(before)} → ${mib(most)} MiB\n`,
      )
      if (worstMs > maxPauseMs) throw new Error(`the event loop was blocked for ${Math.round(worstMs)} ms`)
      if (most - before > MAX_GROWTH_BYTES) throw new Error(`memory grew from ${mib(before)} to ${mib(most)} MiB`)
    },
    async restart() {
      await stack.operator.stop()
      stack.operator = await start()
    },
    async stop() {
      await stack.operator.kill()
      await rules.stop()
      await agent.close()
      await client.close()
      await server.stop()
      await ledger.stop()
      await rm(folder, { recursive: true, force: true })
    },
  }
  return stack
}

/** Takes what the operator records: each event is checked as the ledger would. */
async function startLedger(): Promise<{ url: string; events: AuditEvent[]; stop(): Promise<void> }> {
  const events: AuditEvent[] = []
  const listener = createServer((request, response) => {
    const chunks: Buffer[] = []
    request.on('data', (chunk: Buffer) => chunks.push(chunk))
    request.on('end', () => {
      try {
        events.push(checkAuditEvent(JSON.parse(Buffer.concat(chunks).toString('utf8'))))
        response.writeHead(201).end('{}')
      } catch (error) {
        response.writeHead(422).end(String(error))
      }
    })
  })
  await new Promise<void>((resolve) => listener.listen(0, '127.0.0.1', resolve))
  return {
    url: `http://127.0.0.1:${(listener.address() as AddressInfo).port}`,
    events,
    async stop() {
      listener.closeAllConnections()
      await new Promise((resolve) => listener.close(resolve))
    },
  }
}
