import Fastify, {
  LogController,
  type FastifyBaseLogger,
  type FastifyInstance,
  type FastifyReply,
  type FastifyRequest,
} from 'fastify'
import { METHODS, type IncomingMessage, type ServerResponse } from 'node:http'
import type { BlockList } from 'node:net'
import type { Logger } from 'pino'
import { SignetError } from '#core/error/signet-error.ts'
import { parseDerivedKeyId } from '#core/keyring/derived.ts'
import { macMatches } from '#core/stamp/mac.ts'
import type { Channel, Stamp } from '#core/stamp/schema.ts'
import { readStamp } from '#core/stamp/verify.ts'
import { writeSealed } from './egress/sealed.ts'
import type { EgressValidator } from './egress/validator.ts'
import { originForm, pathOf } from './exchange/context.ts'
import type { ExchangeDeps } from './exchange/exchange.ts'
import { Exchanges, ownRefusal } from './exchanges.ts'
import { RESERVED } from './http/target.ts'
import type { StampKeys } from './keys.ts'
import type { PolicyHolder } from './policy/holder.ts'
import { answerClientError } from './http/client-error.ts'
import type { RequestTracing } from './http/request-tracing.ts'
import { STAMP_HASH, stampNotFound, type StampArchive, type StampStore } from './stamps/store.ts'

export type ProxyAppDeps = {
  readonly channel: Channel
  readonly tenant: string
  readonly producerId: string
  readonly policies: PolicyHolder
  readonly validator: EgressValidator
  readonly exchange: ExchangeDeps
  /** Answers may be in a content coding. */
  readonly compression: boolean
  readonly stamps: StampStore
  readonly keys: StampKeys
  readonly archive: StampArchive
  /** The archive gives out stamps only where it made sure that they are this producer's. */
  readonly archiveVouches: boolean
  readonly trustedIngress: BlockList | null
  readonly tracing: RequestTracing
  readonly log: Logger
  readonly newRequestId: () => string
  readonly nowMs: () => number
  readonly monotonicMs: () => number
  readonly requestTimeoutMs: number
  readonly maxHeaderBytes: number
}

/**
 * One listener of the proxy. Fastify routes, and hands each request over before it reads a body: an exchange works on the raw
 * request and response, since what leaves must be byte for byte what was sealed. What needs no routing does not go through it.
 */
export function buildApp(deps: ProxyAppDeps): FastifyInstance {
  const logger: FastifyBaseLogger = deps.log
  const exchanges = new Exchanges(deps)
  const app = Fastify({
    loggerInstance: logger,
    logController: new LogController({ disableRequestLogging: true }),
    // Nothing logs through the request; a child logger for each costs as much as the whole routing.
    childLoggerFactory: (parent) => parent,
    requestTimeout: deps.requestTimeoutMs,
    http: {
      maxHeaderSize: deps.maxHeaderBytes,
      insecureHTTPParser: false,
      // Node takes the longer of the two time-outs for the one of the whole request, and looks for late ones only this often.
      headersTimeout: Math.min(60_000, deps.requestTimeoutMs),
      connectionsCheckingInterval: Math.min(30_000, deps.requestTimeoutMs),
    },
    frameworkErrors: (error, request, reply) => {
      reply.hijack()
      const refusal = new SignetError('REQUEST_INVALID', `The request target is malformed: ${error.message}`)
      ownRefusal(deps, refusal, request.raw, reply.raw)
    },
    clientErrorHandler: answerClientError,
    routerOptions: { maxParamLength: 65_536 },
  })
  for (const method of METHODS) {
    // Whatever HTTP/1.1 method the parser knows is the service's to answer; CONNECT and upgrades are not passed on.
    if (method !== 'CONNECT' && !app.supportedMethods.includes(method)) app.addHttpMethod(method, { hasBody: true })
  }
  const handOver = (handle: (request: IncomingMessage, response: ServerResponse) => void) => ({
    onRequest(request: FastifyRequest, reply: FastifyReply) {
      reply.hijack()
      handle(request.raw, reply.raw)
    },
    handler: unreachable,
  })
  app.route({
    method: app.supportedMethods,
    url: '*',
    ...handOver((request, response) => exchanges.begin(request, response)),
  })
  app.route({
    method: app.supportedMethods,
    url: `${RESERVED}*`,
    ...handOver((request, response) => void reserved(deps, request, response)),
  })
  routeOnlyWhereNeeded(app, exchanges)
  return app
}

/** Routing costs a tenth of a request passed on, and most requests have but one route that they can take. */
function routeOnlyWhereNeeded(app: FastifyInstance, exchanges: Exchanges): void {
  let closing = false
  app.addHook('preClose', async () => {
    closing = true
  })
  app.server.removeAllListeners('request')
  app.server.on('request', (request, response) => {
    if (!closing && needsNoRouting(request.url ?? '')) exchanges.begin(request, response)
    else app.routing(request, response)
  })
}

/** Origin form, nothing to decode and not ours: then there is only one route that it can take. */
function needsNoRouting(url: string): boolean {
  return url.startsWith('/') && !url.includes('%') && !url.startsWith(RESERVED)
}

function unreachable(): never {
  throw new Error('the request was handed over')
}

/** `/.well-known/signet/`: stamps by hash and by request. Nothing under it ever reaches the upstream. */
async function reserved(deps: ProxyAppDeps, request: IncomingMessage, response: ServerResponse): Promise<void> {
  const path = pathOf(originForm(request.url ?? '/'))
  try {
    if (request.method !== 'GET' && request.method !== 'HEAD') {
      throw new SignetError('METHOD_NOT_ALLOWED', `${request.method} is not possible here; GET and HEAD are`)
    }
    const [kind, id = '', ...rest] = path.slice(RESERVED.length).split('/')
    if (rest.length > 0 || (kind !== 'stamps' && kind !== 'requests')) {
      throw new SignetError(
        'NOT_FOUND',
        `There is no «${path.slice(0, 200)}»; there are ${RESERVED}stamps/{stamp_hash} and ${RESERVED}requests/{request_id}`,
      )
    }
    const jcs = kind === 'stamps' ? await stampByHash(deps, id) : await stampByRequest(deps, id)
    const body = Buffer.from(jcs)
    const headers = [
      'content-type',
      'application/json',
      'cache-control',
      // What a hash names never changes; what a request id leads to is looked up again.
      kind === 'stamps' ? 'private, max-age=31536000, immutable' : 'private, no-cache',
      'x-content-type-options',
      'nosniff',
    ]
    writeSealed(response, deps.validator.sealOwn(200, headers, body))
  } catch (error) {
    const known =
      error instanceof SignetError
        ? error
        : new SignetError('INTERNAL', 'The stamp could not be looked up', { cause: error })
    if (known.code === 'INTERNAL') deps.log.error({ error }, 'stamp look-up failed')
    ownRefusal(deps, known, request, response)
  }
}

async function stampByHash(deps: ProxyAppDeps, hash: string): Promise<string> {
  if (!STAMP_HASH.test(hash))
    throw new SignetError('REQUEST_INVALID', 'A stamp hash is «sha256:» and 64 lowercase hex digits')
  const held = deps.stamps.byHash(hash)
  if (held !== null) {
    if (held.channel !== deps.channel || held.tenant !== deps.tenant) throw stampNotFound(hash)
    return held.jcs
  }
  return inScope(deps, await deps.archive.fetchStamp(hash), hash)
}

async function stampByRequest(deps: ProxyAppDeps, requestId: string): Promise<string> {
  if (!/^[0-9a-f-]{36}$/.test(requestId)) throw new SignetError('REQUEST_INVALID', 'A request id is a UUID')
  const held = deps.stamps.byRequest(requestId)
  if (held !== null) {
    if (held.channel !== deps.channel || held.tenant !== deps.tenant) throw stampNotFound(`of request ${requestId}`)
    return held.jcs
  }
  return inScope(deps, await deps.archive.fetchRequestStamp(requestId), `of request ${requestId}`)
}

/**
 * The ledger answers within the tenant, and records what producers send it: channel, producer and signature are this listener's to
 * check. What it cannot vouch for it does not serve.
 */
function inScope(deps: ProxyAppDeps, bytes: Buffer | null, what: string): string {
  if (bytes === null) throw stampNotFound(what)
  const stamp = readStamp(bytes)
  const isOurs =
    stamp.subject.channel === deps.channel &&
    stamp.subject.tenant === deps.tenant &&
    stamp.data_lineage.producer_id === deps.producerId &&
    isSignedByUs(deps, stamp)
  if (!isOurs) throw stampNotFound(what)
  return bytes.toString('utf8')
}

/** Keys that were issued to us on former days we do not hold any more; the ledger has the root of them all. */
function isSignedByUs(deps: ProxyAppDeps, stamp: Stamp): boolean {
  const keyId = stamp.integrity.key_id
  const key = deps.keys.index.stampKey(keyId)
  if (key !== undefined) return key.producerId === deps.producerId && macMatches(stamp, key.secret)
  const derived = deps.archiveVouches ? parseDerivedKeyId(keyId) : null
  return derived !== null && derived.tenant === deps.tenant && derived.producerId === deps.producerId
}
