import type { IncomingMessage, ServerResponse } from 'node:http'
import { SignetError } from '#core/error/signet-error.ts'
import { newTraceId } from '#runtime/identifier.ts'
import type { ProxyAppDeps } from './app.ts'
import { acceptedCodings, IDENTITY_ONLY } from './coding/accept.ts'
import { writeSealed } from './egress/sealed.ts'
import { digestTarget, originForm, pathOf, type ExchangeContext } from './exchange/context.ts'
import { Exchange } from './exchange/exchange.ts'
import { ANONYMOUS, callerOf } from './http/caller.ts'
import { TagMarks, type TagMark } from './http/etag.ts'
import { TargetReader, type Target } from './http/target.ts'
import type { IncomingTrace } from './http/request-tracing.ts'
import type { Policy } from './policy/policy.ts'
import type { Series } from './tally.ts'

/** Begins exchanges: finds out what is known of a request before it is passed on. */
export class Exchanges {
  readonly #deps: ProxyAppDeps
  readonly #targets = new TargetReader()
  readonly #tags = new TagMarks()
  readonly #counted: Readonly<Record<Outcome, Series>>

  constructor(deps: ProxyAppDeps) {
    this.#deps = deps
    const { channel } = deps
    const counted = (outcome: Outcome): Series => deps.exchange.metrics.requests.series({ channel, outcome })
    this.#counted = { refused: counted('refused'), failed: counted('failed'), answered: counted('answered') }
  }

  begin(request: IncomingMessage, response: ServerResponse): void {
    const deps = this.#deps
    let target: Target
    try {
      target = this.#targets.read(request.url ?? '/')
    } catch (error) {
      ownRefusal(deps, error as SignetError, request, response)
      return
    }
    const policy = deps.policies.current
    const incoming = deps.tracing.accept(request.headers.traceparent, deps.channel === 'internal')
    const requestId = deps.newRequestId()
    if (policy === null) {
      const error = new SignetError('PROXY_NOT_READY', 'No policy bundle is loaded yet, so nothing may leave')
      ownRefusal(deps, error, request, response, { requestId, traceId: incoming.traceId })
      return
    }
    const mode = policy.tenantMode(deps.tenant, requestId)
    const isRead = request.method === 'GET' || request.method === 'HEAD'
    const ofSidecar = isRead && mode === 'enforce' && policy.stampsEnabled ? target.ofSidecar : null
    const context = this.#contextOf(request, ofSidecar === null ? target : subjectOf(ofSidecar), {
      incoming,
      requestId,
      mode,
      policy,
      method: ofSidecar === null ? (request.method ?? 'GET') : 'GET',
      // A sidecar is about the file, which goes nowhere.
      accepted:
        deps.compression && ofSidecar === null ? acceptedCodings(request.headers['accept-encoding']) : IDENTITY_ONLY,
      tagMark: this.#tagsOf(policy, request.method ?? 'GET', target.target),
    })
    this.#start(request, response, context, ofSidecar, incoming)
  }

  /** A sidecar is the stamp of what GET answers (for HEAD, Node leaves out the content). */
  #contextOf(
    request: IncomingMessage,
    { target, path, digest }: Pick<Target, 'target' | 'path' | 'digest'>,
    known: Pick<ExchangeContext, 'requestId' | 'mode' | 'policy' | 'method' | 'accepted' | 'tagMark'> & {
      incoming: IncomingTrace
    },
  ): ExchangeContext {
    const { channel, tenant, producerId, trustedIngress, monotonicMs } = this.#deps
    const { incoming, requestId, mode, policy, method, accepted, tagMark } = known
    return {
      requestId,
      traceId: incoming.traceId,
      spanId: incoming.spanId,
      channel,
      tenant,
      producerId,
      mode,
      policy,
      tagMark,
      method,
      target,
      targetDigest: digest,
      path,
      headers: request.headers,
      accepted,
      caller: trustedIngress === null ? ANONYMOUS : callerOf(request, trustedIngress),
      httpVersion: request.httpVersion,
      startedAt: monotonicMs(),
    }
  }

  #start(
    request: IncomingMessage,
    response: ServerResponse,
    context: ExchangeContext,
    ofSidecar: string | null,
    incoming: IncomingTrace,
  ): void {
    const { exchange, tracing, validator } = this.#deps
    const span = tracing.start(incoming, context)
    if (!exchange.budget.enter()) {
      const error = new SignetError(
        'OVERLOADED',
        'The proxy has as many exchanges under way as it may; try again shortly',
      )
      writeSealed(response, validator.seal(validator.decideFailure(context, error, null, 'none')))
      span?.end(503)
      return
    }
    const onDone = (): void => {
      exchange.budget.leave()
      this.#counted[outcomeOf(response)].inc()
      span?.end(response.statusCode)
    }
    const kind = ofSidecar === null ? ANSWER : ({ kind: 'sidecar', upstreamTarget: ofSidecar } as const)
    new Exchange(exchange, context, kind, request, response, onDone).start()
  }

  /** Without a key no tag is confirmed, and no answer leaves either. */
  #tagsOf(policy: Policy, method: string, target: string): TagMark {
    const { keys, channel } = this.#deps
    const nowMs = this.#deps.nowMs()
    if (!keys.hasActive(nowMs)) return () => ''
    const revision = policy.etagRevision(nowMs)
    return this.#tags.of(keys.active(nowMs).secret, { channel, revision, method, target })
  }
}

const ANSWER = { kind: 'answer' } as const
type Outcome = 'refused' | 'failed' | 'answered'

function subjectOf(target: string): Pick<Target, 'target' | 'path' | 'digest'> {
  return { target, path: pathOf(target), digest: digestTarget(target) }
}

function outcomeOf(response: ServerResponse): Outcome {
  return response.headersSent && response.statusCode === 422
    ? 'refused'
    : response.statusCode >= 500
      ? 'failed'
      : 'answered'
}

/** A refusal outside of an exchange. */
export function ownRefusal(
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
