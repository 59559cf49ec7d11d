import { randomBytes } from 'node:crypto'
import type { AddressInfo } from 'node:net'
import type { AuditEvent } from '#core/audit/event.ts'
import { SignetError } from '#core/error/signet-error.ts'
import type { BundleModule } from '#engine/bundle/build.ts'
import { compileModule, type RuleSource } from '#engine/compile/compile.ts'
import { BUNDLES_AUDIENCE, type BundlesLimits } from '#operator/bundles/app.ts'
import { createBundlesMetrics } from '#operator/bundles/metrics.ts'
import type { Publisher } from '#operator/bundles/publisher.ts'
import { createBundleService, type BundleService } from '#operator/bundles/service.ts'
import type { RotationTimes } from '#operator/bundles/signing-keys.ts'
import { createAuthority, issueServing } from '#operator/certificates/authority.ts'
import { systemClock } from '#operator/clock.ts'
import { createKubernetesClient } from '#operator/kubernetes/client.ts'
import { readCredentials } from '#operator/kubernetes/credentials.ts'
import { uuidV7 } from '#runtime/identifier.ts'
import { createServiceAccountAuthenticator } from '#runtime/identity/service-account.ts'
import { reviewedPod } from '#runtime/kubernetes/api.ts'
import { createLogger } from '#runtime/telemetry/log.ts'
import { createMetricsRegistry, type MetricsRegistry } from '#runtime/telemetry/metrics.ts'
import type { TestApiServer } from '#test/support/api-server.ts'
import { ensureOpa } from '#tools/opa/build.ts'

export const OPERATOR_NAMESPACE = 'signet-system'

export type ReplicaOptions = {
  readonly limits?: Partial<BundlesLimits>
  readonly lifetimeMs?: number
  readonly rotation?: RotationTimes
  readonly upkeepMs?: number
  readonly cacheMs?: number
}

/** A replica's bundles: the real store, the real authenticator, https. */
export type Replica = {
  readonly url: string
  readonly service: BundleService
  readonly registry: MetricsRegistry
  /** Begins a term, until `end`. */
  lead(term: number): { readonly publisher: Publisher; end(): Promise<void> }
  /** Namespaces whose index changed, in order. */
  readonly changes: string[]
  stop(): Promise<void>
}

export type BundlesStack = {
  readonly ca: string
  readonly events: AuditEvent[]
  ledgerIsUp: boolean
  start(name: string, options?: ReplicaOptions): Promise<Replica>
  stop(): Promise<void>
}

/** Replicas on one API server, with one authority and one ledger that only remembers. */
export async function bundlesStack(server: TestApiServer): Promise<BundlesStack> {
  await server.createNamespace(OPERATOR_NAMESPACE)
  const now = new Date()
  const authority = await createAuthority({ now, lifetimeMs: 86_400_000 })
  const serving = await issueServing({ authority, dnsNames: ['localhost'], now, lifetimeMs: 86_400_000 })
  const replicas: Replica[] = []
  const stack: BundlesStack = {
    ca: authority.cert,
    events: [],
    ledgerIsUp: true,
    async start(name, options = {}) {
      const replica = await startReplica(server, stack, serving, name, options)
      replicas.push(replica)
      return replica
    },
    async stop() {
      await Promise.all(replicas.map((replica) => replica.stop()))
    },
  }
  return stack
}

async function startReplica(
  server: TestApiServer,
  stack: BundlesStack,
  serving: { cert: string; key: string },
  name: string,
  options: ReplicaOptions,
): Promise<Replica> {
  const { cacheMs = 0, ...rest } = options
  const client = createKubernetesClient(readCredentials({ kubeconfig: server.kubeconfig }), { userAgent: name })
  const registry = createMetricsRegistry({ processMetrics: false })
  const stopping = new AbortController()
  const changes: string[] = []
  const service = createBundleService({
    client,
    namespace: OPERATOR_NAMESPACE,
    replica: name,
    clock: systemClock,
    random: Math.random,
    newId: uuidV7,
    newTraceId: () => randomBytes(16).toString('hex'),
    async audit(event) {
      if (!stack.ledgerIsUp) throw new SignetError('LEDGER_UNREACHABLE', 'the ledger is away')
      stack.events.push(event)
    },
    tenant: 'platform',
    compare: async () => {},
    authenticator: createServiceAccountAuthenticator({
      async review(token, audience) {
        const path = '/apis/authentication.k8s.io/v1/tokenreviews'
        const body = {
          apiVersion: 'authentication.k8s.io/v1',
          kind: 'TokenReview',
          spec: { token, audiences: [audience] },
        }
        return reviewedPod(await client.request<Record<string, unknown>>({ method: 'POST', path, body }), audience)
      },
      audience: BUNDLES_AUDIENCE,
      cacheMs,
      now: Date.now,
    }),
    metrics: createBundlesMetrics(registry),
    log: createLogger({ name, level: 'silent' }),
    https: serving,
    onIndexChange: (namespace) => changes.push(namespace),
    ...rest,
  })
  await service.app.listen({ port: 0, host: '127.0.0.1' })
  const running = service.run(stopping.signal)
  const terms = new Set<() => Promise<void>>()
  return {
    url: `https://localhost:${(service.app.server.address() as AddressInfo).port}`,
    service,
    registry,
    changes,
    lead(number) {
      const term = new AbortController()
      const { publisher, ended } = service.lead({ signal: term.signal, holds: () => !term.signal.aborted, number })
      const end = async (): Promise<void> => {
        terms.delete(end)
        term.abort()
        await ended
      }
      terms.add(end)
      return { publisher, end }
    },
    async stop() {
      await Promise.all([...terms].map((end) => end()))
      service.app.server.closeAllConnections()
      await service.app.close()
      stopping.abort()
      await running
      await client.close()
    },
  }
}

/** A module compiled with the real OPA. */
export async function moduleOf(scope: string, rules: readonly RuleSource[]): Promise<BundleModule> {
  return compileModule({ scope, sources: [...rules], opa: await ensureOpa({}), timeoutMs: 60_000 })
}
