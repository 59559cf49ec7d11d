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
import { macMatches } from '#core/stamp/mac.ts'
import type { Channel } from '#core/stamp/schema.ts'
import { readStamp } from '#core/stamp/verify.ts'
import { newTraceId } from '#runtime/identifier.ts'
import { writeSealed } from './egress/sealed.ts'
import type { EgressValidator } from './egress/validator.ts'
import { digestTarget, originForm, pathOf, type ExchangeContext } from './exchange/context.ts'
import { Exchange, type ExchangeDeps } from './exchange/exchange.ts'
import { ANONYMOUS, callerOf } from './http/caller.ts'
import { tagMark, type TagMark } from './http/etag.ts'
import { checkTarget, pathReadings } from './http/request-target.ts'
import type { StampKeys } from './keys.ts'
import type { PolicyHolder } from './policy/holder.ts'
import type { Policy } from './policy/policy.ts'
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
  readonly stamps: StampStore
  readonly keys: StampKeys
  readonly archive: StampArchive
  readonly trustedIngress: BlockList | null
  readonly tracing: RequestTracing
  readonly log: Logger
  readonly newRequestId: () => string
  readonly nowMs: () => number
  readonly monotonicMs: () => number
  readonly requestTimeoutMs: number
  readonly maxHeaderBytes: number
}

const RESERVED = '/.well-known/signet/'
const SIDECAR_SUFFIX = '.stamp.json'

/**
 * One listener of the proxy. Fastify routes, and hands each request over before it reads a body: an exchange works on the raw
 * request and response, since what leaves must be byte for byte what was sealed.
 */
export function buildApp(deps: ProxyAppDeps): FastifyInstance {
  const logger: FastifyBaseLogger = deps.log
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
    ...handOver((request, response) => proxy(deps, request, response)),
  })
  app.route({
    method: app.supportedMethods,
    url: `${RESERVED}*`,
    ...handOver((request, response) => void reserved(deps, request, response)),
  })
  return app
}

function unreachable(): never {
  throw new Error('the request was handed over')
}

function proxy(deps: ProxyAppDeps, request: IncomingMessage, response: ServerResponse): void {
  const { exchange } = deps
  const target = originForm(request.url ?? '/')
  const path = pathOf(target)
  const method = request.method ?? 'GET'
  const policy = deps.policies.current
  try {
    checkTarget(target)
    checkNames(path)
  } catch (error) {
    ownRefusal(deps, error as SignetError, request, response)
    return
  }
  const incoming = deps.tracing.accept(request.headers.traceparent, deps.channel === 'internal')
  const requestId = deps.newRequestId()
  if (policy === null) {
    const error = new SignetError('PROXY_NOT_READY', 'No policy bundle is loaded yet, so nothing may leave')
    ownRefusal(deps, error, request, response, { requestId, traceId: incoming.traceId })
    return
  }
  const sidecar =
    (method === 'GET' || method === 'HEAD') && path.endsWith(SIDECAR_SUFFIX) && path.length > SIDECAR_SUFFIX.length + 1
  const subjectTarget = sidecar ? withoutSidecarSuffix(target, path) : target
  const mode = policy.tenantMode(deps.tenant, requestId)
  const asSidecar = sidecar && mode === 'enforce' && policy.stampsEnabled
  const context: ExchangeContext = {
    requestId,
    traceId: incoming.traceId,
    spanId: incoming.spanId,
    channel: deps.channel,
    tenant: deps.tenant,
    producerId: deps.producerId,
    mode,
    policy,
    tagMark: tagsOf(deps, policy, method, target),
    // A sidecar is the stamp of what GET answers; for HEAD, Node leaves out the content.
    method: asSidecar ? 'GET' : method,
    target: asSidecar ? subjectTarget : target,
    targetDigest: digestTarget(asSidecar ? subjectTarget : target),
    path: asSidecar ? pathOf(subjectTarget) : path,
    headers: request.headers,
    caller: deps.trustedIngress === null ? ANONYMOUS : callerOf(request, deps.trustedIngress),
    httpVersion: request.httpVersion,
    startedAt: deps.monotonicMs(),
  }
  const span = deps.tracing.start(incoming, context)
  if (!exchange.budget.enter()) {
    const error = new SignetError(
      'OVERLOADED',
      'The proxy has as many exchanges under way as it may; try again shortly',
    )
    writeSealed(response, deps.validator.refuseByError(context, error, null, 'none'))
    span?.end(503)
    return
  }
  const onDone = (): void => {
    exchange.budget.leave()
    exchange.metrics.requests.inc({ channel: deps.channel, outcome: outcomeOf(response) })
    span?.end(response.statusCode)
  }
  new Exchange(
    exchange,
    context,
    asSidecar ? { kind: 'sidecar', upstreamTarget: subjectTarget } : { kind: 'answer' },
    request,
    response,
    onDone,
  ).start()
}

/** Without a key no tag is confirmed, and no answer leaves either. */
function tagsOf(deps: ProxyAppDeps, policy: Policy, method: string, target: string): TagMark {
  const nowMs = deps.nowMs()
  if (!deps.keys.hasActive(nowMs)) return () => ''
  const revision = policy.etagRevision(nowMs)
  return tagMark(deps.keys.active(nowMs).secret, { channel: deps.channel, revision, method, target })
}

/**
 * Our own names, spelt so that the service may read them and our routing does not: nothing under the reserved prefix reaches the
 * service, and a file of the name of a stamp is never served as one.
 */
function checkNames(path: string): void {
  for (const segments of pathReadings(path)) {
    const isReserved = segments[0] === '.well-known' && segments[1] === 'signet'
    const isSidecar = (segments.at(-1) ?? '').endsWith(SIDECAR_SUFFIX) && !path.endsWith(SIDECAR_SUFFIX)
    if (isReserved || isSidecar)
      throw new SignetError('NOT_FOUND', 'This name is reserved for stamps, and is not spelt so')
  }
}

function outcomeOf(response: ServerResponse): string {
  return response.headersSent && response.statusCode === 422
    ? 'refused'
    : response.statusCode >= 500
      ? 'failed'
      : 'answered'
}

function withoutSidecarSuffix(target: string, path: string): string {
  return path.slice(0, -SIDECAR_SUFFIX.length) + target.slice(path.length)
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
  const key = deps.keys.index.stampKey(stamp.integrity.key_id)
  const isOurs =
    stamp.subject.channel === deps.channel &&
    stamp.subject.tenant === deps.tenant &&
    stamp.data_lineage.producer_id === deps.producerId &&
    key !== undefined &&
    key.producerId === deps.producerId &&
    macMatches(stamp, key.secret)
  if (!isOurs) throw stampNotFound(what)
  return bytes.toString('utf8')
}

function ownRefusal(
  deps: ProxyAppDeps,
  error: SignetError,
  request: IncomingMessage,
  response: ServerResponse,
  ids: { requestId: string; traceId: string } = { requestId: deps.newRequestId(), traceId: newTraceId() },
): void {
  const identity = {
    ...ids,
    target: originForm(request.url ?? '/'),
    method: request.method ?? 'GET',
    accept: request.headers.accept,
  }
  writeSealed(response, deps.validator.sealOwnRefusal(error, identity))
}
