import type { ServerOptions } from 'node:https'
import type { FastifyInstance } from 'fastify'
import type { AuditEvent } from '#core/audit/event.ts'
import { pause, type Clock } from '#operator/clock.ts'
import type { KubernetesClient } from '#operator/kubernetes/client.ts'
import type { ServiceAccountAuthenticator } from '#runtime/identity/service-account.ts'
import type { Logger } from '#runtime/telemetry/log.ts'
import { createActivationGate, type CandidateModule } from './activation-gate.ts'
import { buildBundlesApp, type BundlesLimits } from './app.ts'
import { createBlobs } from './blobs.ts'
import { cachedBlobs } from './cached-blobs.ts'
import { createConfigMapStore } from './config-maps.ts'
import type { BundlesMetrics } from './metrics.ts'
import type { ObjectOwner, ObjectStore } from './objects.ts'
import { createPublisher, type Publisher } from './publisher.ts'
import { createRefusalAudit } from './refusals.ts'
import { createRevisionStore } from './revision-store.ts'
import { indexName } from './revisions.ts'
import { createSecretCell, createSigner, type SecretCell } from './signer.ts'
import { ROTATION, type RotationTimes } from './signing-keys.ts'
import { createBundleSource, type BundleSource } from './source.ts'
import { createStatusShare, type StatusShare } from './status-share.ts'
import { keepUp } from './upkeep.ts'

export type BundleServiceOptions = {
  readonly client: KubernetesClient
  /** The operator's own. */
  readonly namespace: string
  /** Unique among replicas: the pod's name. */
  readonly replica: string
  readonly owner?: ObjectOwner
  readonly clock: Clock
  readonly random: () => number
  readonly newId: () => string
  readonly newTraceId: () => string
  readonly audit: (event: AuditEvent) => Promise<void>
  /** Whose chain publications and refusals are in. */
  readonly tenant: string
  /** The differential check. Throws SignetError. */
  readonly compare: (module: CandidateModule) => Promise<void>
  /** Of audience `BUNDLES_AUDIENCE`. */
  readonly authenticator: ServiceAccountAuthenticator
  readonly metrics: BundlesMetrics
  readonly log: Logger
  readonly https?: ServerOptions
  readonly limits?: Partial<BundlesLimits>
  /** A bundle is valid for so long; default two days: it is signed again in the second half, and proxies live through a day without operator. */
  readonly lifetimeMs?: number
  readonly rotation?: RotationTimes
  /** Default 64 MiB, twice: packed bundles, and what they are made of. */
  readonly cacheBytes?: number
  readonly upkeepMs?: number
  /** A namespace's index changed (a rollback was asked for or cleared, another replica published): its rules are to be looked at again. */
  readonly onIndexChange?: (namespace: string) => void
  /** Proxies of a namespace said something new. */
  readonly onStatusChange?: (namespace: string) => void
}

/** Everything of bundles in one process: what each replica does, and what the leader does besides. */
export type BundleService = {
  readonly app: FastifyInstance
  readonly source: BundleSource
  readonly statuses: StatusShare
  /** Of a replica: follows the store and shares what proxies report, until `signal` aborts. */
  run(signal: AbortSignal): Promise<void>
  /** Of the leader, for one term: a publisher, and its upkeep until the term ends. */
  lead(term: LeaderTerm): { readonly publisher: Publisher; readonly ended: Promise<void> }
  /** A namespace that needs no bundle any more. */
  forget(namespace: string): Promise<void>
}

/** `Term` of operator/kubernetes/leader.ts. */
type LeaderTerm = { readonly signal: AbortSignal; holds(): boolean; readonly number: number }

const DEFAULT_LIFETIME_MS = 2 * 86_400_000
const DEFAULT_CACHE_BYTES = 64 << 20
/** Longer than any writer takes from its blobs to its index. */
const BLOB_GRACE_MS = 600_000
const REFUSAL_FLUSH_MS = 5_000

export function createBundleService(
  options: BundleServiceOptions,
  // For tests that have no API server.
  stores: { objects?: ObjectStore; secret?: SecretCell } = {},
): BundleService {
  const { client, namespace, clock, log, metrics } = options
  const objects = stores.objects ?? createConfigMapStore({ client, namespace, clock, random: options.random })
  const secret = stores.secret ?? createSecretCell(client, namespace)
  const now = (): Date => new Date(clock.wallMs())
  const cacheBytes = options.cacheBytes ?? DEFAULT_CACHE_BYTES
  const blobs = cachedBlobs(createBlobs(objects, { now, graceMs: BLOB_GRACE_MS }), cacheBytes)
  const store = createRevisionStore(objects, blobs)
  const gate = createActivationGate({ compare: options.compare })
  const source = createBundleSource({
    objects,
    store,
    maxBytes: cacheBytes,
    ...(options.onIndexChange === undefined ? {} : { onChange: options.onIndexChange }),
    onError: (error) => log.warn({ error }, 'bundle objects cannot be followed; what is known is served'),
  })
  const statuses = createStatusShare({
    objects,
    replica: options.replica,
    ...(options.owner === undefined ? {} : { owner: options.owner }),
    clock,
    ...(options.onStatusChange === undefined ? {} : { onChange: options.onStatusChange }),
    onError: (error) => log.warn({ error }, 'the status of proxies cannot be shared'),
  })
  const { audit, tenant, newId, newTraceId } = options
  const refusals = createRefusalAudit({
    audit,
    tenant,
    now,
    newId,
    newTraceId,
    onError: (error) => log.warn({ error }, 'refused pulls are not audited yet'),
  })
  const app = buildBundlesApp({
    source,
    authenticator: options.authenticator,
    statuses,
    refusals,
    metrics,
    log,
    clock,
    ...(options.limits === undefined ? {} : { limits: options.limits }),
    ...(options.https === undefined ? {} : { https: options.https }),
  })

  return {
    app,
    source,
    statuses,
    async run(signal) {
      const flushing = (async () => {
        while (await pause(clock, REFUSAL_FLUSH_MS, signal)) await refusals.flush()
      })()
      await Promise.all([source.run(signal), statuses.run(signal), flushing])
    },
    lead(term) {
      const signer = createSigner({ secret, objects, now, times: options.rotation ?? ROTATION })
      const publisher = createPublisher({
        store,
        signer,
        gate,
        audit,
        tenant,
        term: () => term.number,
        holds: () => term.holds(),
        now,
        newId,
        newTraceId,
        lifetimeMs: options.lifetimeMs ?? DEFAULT_LIFETIME_MS,
        observer: {
          published(of, { outcome, revision, problems }) {
            metrics.publications.inc({ outcome })
            for (const { part, error } of problems) metrics.publicationProblems.inc({ part, code: error.code })
            if (outcome === 'unchanged') return
            const problem = problems[0]?.error
            log.info({ namespace: of, outcome, revision, ...(problem === undefined ? {} : { problem }) }, 'bundle')
          },
          rewritten: (of, error) =>
            log.error(
              { namespace: of, error },
              'the index of a namespace held no index any more and was written anew from the rules; its former revisions, and events not yet audited, are lost',
            ),
          auditFailed: (of, error) => log.warn({ error, namespace: of }, 'a publication is not audited yet'),
        },
      })
      const ended = keepUp(
        {
          objects,
          blobs,
          publisher,
          signer,
          clock,
          ...(options.upkeepMs === undefined ? {} : { intervalMs: options.upkeepMs }),
          onError: (error) => log.error({ error }, 'upkeep of bundles failed; it is tried again'),
          onUnaudited: (events) => metrics.unaudited.set(events),
          onUntrusted: (of) => options.onIndexChange?.(of),
        },
        term.signal,
      ).then(() => publisher.settled())
      return { publisher, ended }
    },
    async forget(of) {
      const found = await objects.read(indexName(of))
      if (found !== null) await objects.remove(found)
    },
  }
}
