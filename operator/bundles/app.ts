import { Readable } from 'node:stream'
import {
  fastify,
  LogController,
  type FastifyBaseLogger,
  type FastifyInstance,
  type FastifyReply,
  type FastifyRequest,
} from 'fastify'
import type { ServerOptions } from 'node:https'
import { SignetError } from '#core/error/signet-error.ts'
import { createHeldPolls, LONG_POLL_TYPE, matchesEtag, preferredWaitSeconds } from '#engine/bundle/held-polls.ts'
import type { Clock } from '#operator/clock.ts'
import { answerFrameworkError, problemOf, useProblemResponses } from '#runtime/http/problem.ts'
import { uuidV7 } from '#runtime/identifier.ts'
import type { ServiceAccountAuthenticator } from '#runtime/identity/service-account.ts'
import type { Logger } from '#runtime/telemetry/log.ts'
import { createLimiter } from './limiter.ts'
import type { BundlesMetrics } from './metrics.ts'
import type { RefusalAudit } from './refusals.ts'
import { createTurns, type BundleSource, type ServedBundle } from './source.ts'
import { readStatusReport } from './status-report.ts'
import type { StatusShare } from './status-share.ts'

/** Audience of the tokens that pods pull and report with. */
export const BUNDLES_AUDIENCE = 'signet-bundles'

export type BundlesLimits = {
  /** Polls held at the same time. */
  readonly maxHeldPolls: number
  readonly maxHeldPollsPerPod: number
  readonly maxWaitSeconds: number
  /** Bundles that are being sent at the same time; each needs some 100 KiB, and a slow reader holds its place. */
  readonly maxSends: number
  /** A reader that takes nothing for so long is cut off. */
  readonly sendIdleMs: number
  readonly requestsPerPod: { readonly burst: number; readonly perSecond: number }
}

export const BUNDLES_LIMITS: BundlesLimits = {
  maxHeldPolls: 10_000,
  maxHeldPollsPerPod: 2,
  maxWaitSeconds: 300,
  maxSends: 128,
  sendIdleMs: 20_000,
  requestsPerPod: { burst: 20, perSecond: 2 },
}

export type BundlesDeps = {
  readonly source: BundleSource
  /** Of audience `BUNDLES_AUDIENCE`. */
  readonly authenticator: ServiceAccountAuthenticator
  readonly statuses: Pick<StatusShare, 'report'>
  readonly refusals: Pick<RefusalAudit, 'record'>
  readonly metrics: BundlesMetrics
  readonly log: Logger
  readonly clock: Pick<Clock, 'monotonicMs' | 'wallMs'>
  readonly limits?: Partial<BundlesLimits>
  /** Certificate and key; without them it is plain HTTP, for tests. */
  readonly https?: ServerOptions
}

type Caller = { readonly namespace: string; readonly pod: { readonly name: string; readonly uid: string } }
type NamespaceRequest = FastifyRequest<{ Params: { name: string } }>

const REQUEST_TIMEOUT_MS = 30_000
const HANDSHAKE_TIMEOUT_MS = 10_000
const MAX_CALLERS = 20_000
const UNREADABLE: ReadonlySet<number> = new Set([400, 413, 415, 422])
const CHUNK_BYTES = 64 * 1024
const NAMESPACE = /^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/

/**
 * Serves what proxies, and OPA, load: `GET /v1/bundles/namespace/{name}` (OPA's bundle API with long polling), `GET
 * /v1/bundle-trust` (JWK Set), and takes `POST /v1/status/namespace/{name}` (OPA's status API). A namespace's bundle is only
 * for pods of that namespace, by their bound token. Any replica serves.
 */
export function buildBundlesApp(deps: BundlesDeps): FastifyInstance {
  const { source, metrics } = deps
  const limits = { ...BUNDLES_LIMITS, ...deps.limits }
  const logger: FastifyBaseLogger = deps.log
  // A held poll is silent for as long as it may be held.
  const connectionTimeout = (limits.maxWaitSeconds + 30) * 1000
  const app = fastify({
    ...(deps.https === undefined ? {} : { https: { handshakeTimeout: HANDSHAKE_TIMEOUT_MS, ...deps.https } }),
    loggerInstance: logger,
    logController: new LogController({ disableRequestLogging: true }),
    genReqId: () => uuidV7(),
    frameworkErrors: answerFrameworkError,
    requestTimeout: REQUEST_TIMEOUT_MS,
    connectionTimeout,
    keepAliveTimeout: 72_000,
    bodyLimit: 256 * 1024,
    exposeHeadRoutes: false,
    return503OnClosing: true,
    forceCloseConnections: 'idle',
  } as object) as unknown as FastifyInstance
  app.server.maxConnections = 2 * limits.maxHeldPolls
  useProblemResponses(app)
  // Headers past what Node takes, and what is no HTTP.
  app.server.on('clientError', () => metrics.refused.inc({ action: 'connection', code: 'REQUEST_INVALID' }))
  // A report that cannot be read is refused before anybody asks whose it is.
  app.addHook('onError', async (request, _reply, error) => {
    if (request.method === 'POST' && UNREADABLE.has(problemOf(error).status))
      metrics.statusReports.inc({ result: 'refused' })
  })

  const polls = createHeldPolls({
    source,
    maxPolls: limits.maxHeldPolls,
    maxPollsPerCaller: limits.maxHeldPollsPerPod,
  })
  metrics.onCollect(() => ({ heldPolls: polls.size }))
  const sendTurn = createTurns(limits.maxSends)
  const limiter = createLimiter({
    ...limits.requestsPerPod,
    maxCallers: MAX_CALLERS,
    nowMs: () => deps.clock.monotonicMs(),
  })
  app.addHook('preClose', () => polls.end())
  app.addHook('onSend', async (_request, reply, payload) => {
    if (reply.statusCode === 503 || reply.statusCode === 429) reply.header('retry-after', 1)
    return payload
  })

  /** Who it is, if it may have to do with this namespace. Throws UNAUTHENTICATED, FORBIDDEN, IDENTITY_UNAVAILABLE, TOO_MANY_REQUESTS. */
  async function authorise(request: NamespaceRequest, action: 'pull' | 'report'): Promise<Caller> {
    const namespace = request.params.name
    if (!NAMESPACE.test(namespace)) throw new SignetError('NOT_FOUND', 'there is no namespace of such a name')
    let caller: string | null = null
    try {
      const who = await deps.authenticator.authenticate(request.headers.authorization)
      caller = `${who.namespace}/${who.pod?.name ?? `serviceaccount:${who.serviceAccount}`}`
      if (who.pod === null) {
        throw new SignetError('FORBIDDEN', 'the token is bound to no pod; use a projected service-account token')
      }
      if (who.namespace !== namespace) {
        throw new SignetError('FORBIDDEN', `a pod of namespace ${who.namespace} may not ask for that of ${namespace}`)
      }
      if (!limiter.take(who.pod.uid)) {
        throw new SignetError('TOO_MANY_REQUESTS', 'this pod asks too often; wait a second')
      }
      return { namespace, pod: who.pod }
    } catch (error) {
      const code = error instanceof SignetError ? error.code : 'INTERNAL'
      metrics.refused.inc({ action, code })
      if (code === 'UNAUTHENTICATED' || code === 'FORBIDDEN') {
        deps.refusals.record({ action, namespace, caller, address: request.ip, code })
      }
      throw error
    }
  }

  app.get('/v1/bundles/namespace/:name', async (request: NamespaceRequest, reply) => {
    const { namespace, pod } = await authorise(request, 'pull')
    if (!source.synced) throw new SignetError('BUNDLE_UNAVAILABLE', 'this replica has just started; try again shortly')
    const known = request.headers['if-none-match']
    const hasNews = (): boolean => {
      const etag = source.get(namespace)?.etag
      return etag !== undefined && !matchesEtag(known, etag)
    }
    const waitSeconds = Math.min(preferredWaitSeconds(request.headers.prefer), limits.maxWaitSeconds)
    const gone = goneSignal(reply)
    if (!hasNews() && waitSeconds > 0) {
      const etag = source.get(namespace)?.etag ?? null
      await polls.hold({ key: namespace, etag, caller: pod.uid, waitMs: waitSeconds * 1000, signal: gone })
    }
    const found = source.get(namespace)
    if (found === undefined) {
      metrics.pulls.inc({ result: 'missing' })
      throw new SignetError('NOT_FOUND', `there is no bundle for namespace ${namespace}`)
    }
    reply.header('content-type', LONG_POLL_TYPE).header('cache-control', 'no-cache')
    if (!hasNews()) {
      metrics.pulls.inc({ result: 'not_modified' })
      return reply.code(304).header('etag', found.etag).send()
    }
    await sendTurn(async () => {
      if (gone.aborted) return
      const bundle = await source.open(namespace)
      if (bundle === null) throw new SignetError('NOT_FOUND', `there is no bundle for namespace ${namespace}`)
      reply.header('etag', bundle.etag).header('content-length', bundle.length)
      // Node ends a connection that is silent for longer.
      request.raw.socket.setTimeout(limits.sendIdleMs)
      reply.send(Readable.from(pieces(bundle), { objectMode: false, highWaterMark: CHUNK_BYTES }))
      // The place is held until the last byte has left.
      await ended(reply)
      request.raw.socket.setTimeout(connectionTimeout)
      metrics.pulls.inc({ result: reply.raw.writableFinished ? 'sent' : 'aborted' })
    })
    return reply
  })

  app.post('/v1/status/namespace/:name', async (request: NamespaceRequest, reply) => {
    const { namespace, pod } = await authorise(request, 'report')
    const status = readStatusReport(request.body, { namespace, pod: pod.name, uid: pod.uid }, deps.clock.wallMs())
    const result = deps.statuses.report(status)
    metrics.statusReports.inc({ result })
    if (result === 'full') throw new SignetError('OVERLOADED', 'too many proxies report here')
    // As OPA's own services answer.
    return reply.send({})
  })

  app.get('/v1/bundle-trust', (_request, reply) => {
    if (source.trust === null) throw new SignetError('BUNDLE_UNAVAILABLE', 'there is no signing key yet')
    return reply.type('application/jwk-set+json').header('cache-control', 'no-cache').send(Buffer.from(source.trust))
  })

  return app
}

function* pieces(bundle: ServedBundle): Generator<Buffer> {
  for (const part of bundle.parts) {
    for (let at = 0; at < part.length; at += CHUNK_BYTES) yield part.subarray(at, at + CHUNK_BYTES)
  }
}

/** Aborts when the answer can no longer be sent, or has been. */
function goneSignal(reply: FastifyReply): AbortSignal {
  const controller = new AbortController()
  reply.raw.once('close', () => controller.abort())
  return controller.signal
}

function ended(reply: FastifyReply): Promise<void> {
  return new Promise((resolve) => {
    if (reply.raw.closed) resolve()
    reply.raw.once('close', resolve)
  })
}
