import type { Logger } from 'pino'
import { sha256Hex } from '#core/crypto/digest.ts'
import { SignetError } from '#core/error/signet-error.ts'
import type { Judgement } from '#core/policy/join.ts'
import { jcsPayload } from '#core/stamp/payload.ts'
import { embedStamp } from '#core/stamp/splice.ts'
import { IDENTITY_ONLY } from '../coding/accept.ts'
import { PLAIN } from '../coding/answer-coding.ts'
import type { Coding } from '../coding/coding.ts'
import { isSafe, type ExchangeContext } from '../exchange/context.ts'
import { outgoingETag } from '../http/etag.ts'
import {
  forbidsTransform,
  stampedResponseHeaders,
  transparentResponseHeaders,
  type ResponseRewrite,
} from '../http/headers.ts'
import type { ProxyMetrics } from '../metrics.ts'
import { gatherInput, type Answer, type Workload } from './gather.ts'
import { NO_LINEAGE } from '../lineage.ts'
import { inspectNothing, withHeaderFacts, type Inspection } from './inspect.ts'
import type { Payload, StampIssuer } from './issuer.ts'
import type { Clock, DecisionRecorder } from './recorder.ts'
import { refusalDocument, type Refusal } from './refusal.ts'
import { claimSeal, type Decided, type Leaving, type Sealed } from './sealed.ts'

const { decide, seal } = claimSeal()

export type ValidatorDeps = {
  readonly recorder: DecisionRecorder
  readonly issuer: StampIssuer
  readonly metrics: ProxyMetrics
  readonly log: Logger
  readonly workload: Workload
  /** Whether callers can differ at all: without a trusted ingress everybody is anonymous, and no answer is one caller's own. */
  readonly callerVaries: boolean
  readonly clock: Clock
  readonly encode: (content: Buffer, coding: Coding) => Buffer | Promise<Buffer>
}

/** Leave to pass a body on as it comes; its stamp follows when it has passed. */
export type StreamPermit = { readonly decided: Decided; readonly judgement: Judgement; readonly trailer: boolean }

/** Content as the service sent it, and without its codings: the same where it has none. */
export type Received = { readonly raw: Buffer; readonly content: Buffer }

/** SHA-256 (64 lowercase hex digits) and length of a content. */
export type Sized = { readonly hex: string; readonly length: number }

/**
 * The egress validator: nothing leaves without it. It judges an answer and has its event recorded (`decide…`), and when that is
 * written makes the `Sealed` that can be sent (`seal`). Events of one turn are written together (`DecisionRecorder.group`); outside of
 * a group they are written at once. What it throws must become a refusal; the exchange sees to that.
 */
export class EgressValidator {
  readonly #deps: ValidatorDeps

  constructor(deps: ValidatorDeps) {
    this.#deps = deps
  }

  /**
   * Makes an answer ready to leave whose event is written, and publishes its stamp. Throws INTERNAL where its event may still wait to be
   * written.
   */
  seal(decided: Decided): Sealed {
    if (this.#deps.recorder.waiting)
      throw new SignetError('INTERNAL', 'an answer cannot leave before its event is written')
    const { decision, leaving } = decided
    if (isToBeCoded(leaving)) throw new SignetError('INTERNAL', 'an answer cannot leave before it is in its coding')
    if (decision !== null && decision.issued !== null) this.#deps.issuer.publish(decision.context, decision.issued)
    return seal(decided)
  }

  /** The same, for an answer that may leave in a content coding: applies it, where there is one. */
  sealCoded(decided: Decided): Sealed | Promise<Sealed> {
    const { leaving, decision } = decided
    if (!isToBeCoded(leaving)) return this.seal(decided)
    const sealed = (body: Buffer): Sealed => {
      const headers = [...leaving.headers, 'content-length', String(body.length)]
      return this.seal(decide({ status: leaving.status, headers, body }, decision))
    }
    const coded = this.#deps.encode(leaving.body, leaving.coding)
    return coded instanceof Promise ? coded.then(sealed) : sealed(coded)
  }

  /** What leaves instead where the event of a decided answer could not be written: a refusal, or under shadow the answer itself. */
  sealUnwritten(
    decided: Decided,
    error: unknown,
    upstreamStatus: number | null,
    requestEffect: Refusal['requestEffect'],
  ): Sealed {
    const { decision } = decided
    if (decision === null) return this.seal(decided)
    if (decision.observed) {
      this.#unaudited(decision.context, error)
      return this.seal(decided)
    }
    return this.seal(this.decideFailure(decision.context, error, upstreamStatus, requestEffect))
  }

  /**
   * A whole answer under `enforce`: stamped, or the refusal that takes its place. `received`: its content as it came, in its codings; null
   * where there is none (HEAD, 204, 304).
   */
  decideWhole(context: ExchangeContext, answer: Answer, inspection: Inspection, received: Received | null): Decided {
    const { issuer, metrics, clock } = this.#deps
    const startedAt = clock.monotonicMs()
    const nowMs = clock.nowMs()
    const hex = sha256Hex(inspection.payload)
    const judgement = this.#judge(context, answer, inspection, inspection.payload.length, hex, nowMs)
    if (judgement.violations.length > 0) return this.#refuseByPolicy(context, answer, judgement)
    if (answer.status === 304 || !context.policy.stampsEnabled)
      return this.#decideUnstamped(context, answer, judgement, inspection, received)

    requireStripped(inspection)
    const { object } = inspection
    const payload: Payload =
      judgement.canonicalization === 'jcs' && object !== null
        ? jcsPayloadOf(inspection.payload)
        : { hex, length: inspection.payload.length, canonicalization: 'bytes' }
    const issued = issuer.issue(context, answer, judgement, inspection, payload, nowMs)
    const embeds = object !== null && received !== null && !forbidsTransform(answer.headers['cache-control'])
    const body = embeds
      ? embedStamp(inspection.payload, object.closeBrace, object.isEmpty, issued.bytes)
      : inspection.payload
    const leaving = this.#leaveWhole(context, answer, inspection, received, body, {
      stampHeader: issuer.header(issued, embeds),
      link: issuer.link(issued.hash),
    })
    metrics.decisionSeconds.note((clock.monotonicMs() - startedAt) / 1000)
    return decide(leaving, { context, issued, observed: false })
  }

  /**
   * Before the service is asked: the refusal of what is contained, so that it has no effect there; null where nothing refuses it. Judged as an
   * answer without content would be, of which only a violation of the rule `containment` counts: its mode, its event and its metrics are its own.
   */
  decideContained(context: ExchangeContext): Decided | null {
    if (context.mode !== 'enforce' || context.policy.blocks.isEmpty) return null
    const { clock, workload } = this.#deps
    const inspection = inspectNothing(context.policy)
    const input = gatherInput(context, NO_ANSWER, inspection, 0, null, workload, clock.nowMs())
    if (input.blocks?.length === 0) return null
    const judgement = context.policy.judge(input, inspection.undecidable, context.requestId)
    const violations = judgement.violations.filter(({ rule }) => rule === CONTAINMENT)
    if (violations.length === 0) return null
    return this.#refuseByPolicy(context, null, { ...judgement, violations, approvalBlockedBy: [] })
  }

  /** `NAME.stamp.json`: the stamp of what NAME answers, alone; NAME's bytes do not leave. */
  decideSidecar(context: ExchangeContext, answer: Answer, inspection: Inspection, sized: Sized): Decided {
    const { issuer, clock } = this.#deps
    const nowMs = clock.nowMs()
    const judgement = this.#judge(context, answer, inspection, sized.length, sized.hex, nowMs)
    if (judgement.violations.length > 0) return this.#refuseByPolicy(context, answer, judgement)
    requireStripped(inspection)
    const payload = { ...sized, canonicalization: 'bytes' } as const
    const issued = issuer.issue(context, answer, judgement, inspection, payload, nowMs)
    // The stamp of one moment, decided for one caller.
    const headers = [
      'content-type',
      'application/json',
      'cache-control',
      'private, no-cache',
      'vary',
      'Authorization',
      'link',
      issuer.link(issued.hash),
      'content-length',
      String(issued.bytes.length),
    ]
    return decide({ status: 200, headers, body: issued.bytes }, { context, issued, observed: false })
  }

  /**
   * An answer too large or too long to hold: decided on what is known before its first byte. `size` is null where the length is
   * not known. A trailer is announced only to who said that it reads them (`TE: trailers`, RFC 9110 §6.5.1).
   */
  permitStream(
    context: ExchangeContext,
    answer: Answer,
    inspection: Inspection,
    size: number | null,
  ): StreamPermit | Decided {
    const { issuer, recorder, clock } = this.#deps
    const nowMs = clock.nowMs()
    const judgement = this.#judge(context, answer, inspection, size, null, nowMs)
    if (judgement.violations.length > 0) return this.#refuseByPolicy(context, answer, judgement)
    const { stampsEnabled } = context.policy
    if (stampsEnabled) issuer.requireKey(nowMs)
    recorder.record(context, answer, judgement, { eventType: 'egress.decided', action: 'pass', payloadLength: size })
    const trailer =
      stampsEnabled &&
      context.httpVersion === '1.1' &&
      /(^|[,\s])trailers($|[,;\s])/i.test(String(context.headers.te ?? ''))
    // Passes as it came, in its codings, unless the client does not take those.
    const { taken } = answer.coding
    const headers = this.#headers(context, answer, {
      reframed: trailer || !taken,
      contentEncoding: taken ? contentEncodingOf(answer) : null,
      stampHeader: null,
      link: stampsEnabled ? issuer.requestLink(context.requestId) : null,
    })
    if (trailer) headers.push('trailer', 'Compliance-Stamp')
    const leaving = { status: answer.status, headers, body: null }
    return { decided: decide(leaving, { context, issued: null, observed: false }), judgement, trailer }
  }

  /** Stamps a stream that has passed; gives the trailer's value, null where stamps are switched off. Throws what keeps it from being audited: the exchange aborts. */
  completeStream(
    context: ExchangeContext,
    answer: Answer,
    inspection: Inspection,
    judgement: Judgement,
    sized: Sized,
  ): string | null {
    const { issuer, clock, metrics, recorder } = this.#deps
    if (!context.policy.stampsEnabled) {
      metrics.stampsMissing.inc({ tenant: context.tenant, reason: 'flag' })
      recorder.record(context, answer, judgement, {
        eventType: 'egress.completed',
        action: 'pass',
        payloadLength: sized.length,
      })
      return null
    }
    const payload = { ...sized, canonicalization: 'bytes' } as const
    const issued = issuer.issue(context, answer, judgement, inspection, payload, clock.nowMs())
    issuer.publish(context, issued)
    return issuer.header(issued, false)
  }

  /** A stream that broke off after its head had left: audited, never stamped. `passed`: bytes that are gone. */
  abortStream(
    context: ExchangeContext,
    answer: Answer,
    judgement: Judgement | null,
    passed: number,
    reason: string,
  ): void {
    const { recorder, metrics, log } = this.#deps
    metrics.stampsMissing.inc({ tenant: context.tenant, reason: 'aborted' })
    try {
      recorder.record(context, answer, judgement, {
        eventType: 'egress.aborted',
        action: 'abort',
        outcome: 'error',
        payloadLength: passed,
        errorCode: reason,
      })
    } catch (error) {
      metrics.spoolRefusals.inc()
      log.error({ error, request_id: context.requestId }, 'an aborted stream could not be audited')
    }
  }

  /** Under `shadow`: judged, counted and audited; the answer itself passes as it came. */
  observe(context: ExchangeContext, answer: Answer, inspection: Inspection, size: number | null): void {
    const { recorder, metrics, clock } = this.#deps
    const hex = size === null ? null : sha256Hex(inspection.payload)
    const judgement = this.#judge(context, answer, inspection, size, hex, clock.nowMs())
    for (const { rule } of judgement.violations) metrics.shadowViolations.inc({ tenant: context.tenant, rule })
    const outcome = judgement.violations.length > 0 ? 'denied' : 'allowed'
    try {
      recorder.record(context, answer, judgement, {
        eventType: 'egress.decided',
        action: 'pass',
        outcome,
        payloadLength: size,
      })
    } catch (error) {
      this.#unaudited(context, error)
    }
  }

  /** Shadow changes nothing, not even where this fails; that the trail has a hole is said loudly. */
  #unaudited(context: ExchangeContext, error: unknown): void {
    this.#deps.metrics.shadowUnaudited.inc({ tenant: context.tenant })
    this.#deps.log.error({ error, request_id: context.requestId }, 'an answer under shadow could not be audited')
  }

  /** Under `off` and `shadow`: what the upstream said, unchanged. Null body: it is passed on as it comes. */
  decideTransparent(context: ExchangeContext, answer: Answer, body: Buffer | null): Decided {
    if (context.mode === 'enforce')
      throw new SignetError('INTERNAL', 'an answer under enforce cannot pass transparently')
    const headers = transparentResponseHeaders(answer.headers)
    return decide({ status: answer.status, headers, body }, { context, issued: null, observed: true })
  }

  /** Anything that keeps an answer from being given: upstream trouble, overload, a fault of our own. */
  decideFailure(
    context: ExchangeContext,
    cause: unknown,
    upstreamStatus: number | null,
    requestEffect: Refusal['requestEffect'],
  ): Decided {
    const error =
      cause instanceof SignetError
        ? cause
        : new SignetError('INTERNAL', 'The proxy failed; nothing was let out', { cause })
    if (error.code === 'INTERNAL')
      this.#deps.log.error({ error: cause, request_id: context.requestId }, 'exchange failed')
    if (error.code === 'SPOOL_UNAVAILABLE') this.#deps.metrics.spoolRefusals.inc()
    const retryAfterSeconds = error.status === 503 ? RETRY_AFTER_SECONDS : null
    return this.#refuse(
      context,
      null,
      { error, violations: [], upstreamStatus, requestEffect, retryAfterSeconds },
      null,
    )
  }

  /** Signet's own small answers (a stored stamp); they hold no upstream byte. */
  sealOwn(status: number, headers: string[], body: Buffer): Sealed {
    return seal(decide({ status, headers: [...headers, 'content-length', String(body.length)], body }, null))
  }

  /** A refusal outside of an exchange (a reserved or malformed target): no answer was decided on, so there is nothing to audit. */
  sealOwnRefusal(error: SignetError, identity: Parameters<typeof refusalDocument>[1]): Sealed {
    const retryAfterSeconds = error.status === 503 ? RETRY_AFTER_SECONDS : null
    const { headers, body } = refusalDocument(
      { error, violations: [], upstreamStatus: null, requestEffect: 'none', retryAfterSeconds },
      identity,
    )
    return seal(decide({ status: error.status, headers, body: identity.method === 'HEAD' ? null : body }, null))
  }

  /** `answer` null: the service was not asked. */
  #refuseByPolicy(context: ExchangeContext, answer: Answer | null, judgement: Judgement): Decided {
    const { metrics } = this.#deps
    const { tenant } = context
    const rules = [...new Set(judgement.violations.map(({ rule }) => rule))]
    for (const rule of rules) metrics.stampsRejected.inc({ tenant, rule })
    for (const rule of judgement.approvalBlockedBy) metrics.approvalBlocked.inc({ tenant, rule })
    const refusal: Refusal = {
      error: new SignetError(
        'POLICY_DENIED',
        `${answer === null ? 'The request was not passed on' : 'The answer was held back'} by: ${rules.join(', ')}`,
      ),
      violations: judgement.violations,
      upstreamStatus: answer?.status ?? null,
      requestEffect: answer === null || isSafe(context.method) ? 'none' : answer.status < 400 ? 'completed' : 'unknown',
      retryAfterSeconds: null,
    }
    return this.#refuse(context, answer, refusal, judgement)
  }

  #refuse(context: ExchangeContext, answer: Answer | null, refusal: Refusal, judgement: Judgement | null): Decided {
    const { recorder, metrics, log } = this.#deps
    let answered = refusal
    try {
      recorder.record(context, answer, judgement, {
        ...(judgement === null
          ? { eventType: 'egress.failed', action: 'fail', outcome: 'error' }
          : { eventType: 'egress.refused', action: 'refuse', outcome: 'denied' }),
        status: refusal.error.status,
        upstreamStatus: refusal.upstreamStatus,
        payloadLength: null,
        errorCode: refusal.error.code,
      })
    } catch (error) {
      // The refusal cannot be recorded. It holds nothing of the answer, so it may leave; why is said, and loudly.
      if (refusal.error.code !== 'SPOOL_UNAVAILABLE') metrics.spoolRefusals.inc()

      log.error({ error, request_id: context.requestId }, 'a refusal could not be audited')
      if (error instanceof SignetError)
        answered = { ...refusal, error, violations: [], retryAfterSeconds: RETRY_AFTER_SECONDS }
    }
    const { headers, body } = refusalDocument(answered, { ...context, accept: context.headers.accept })
    const leaving = { status: answered.error.status, headers, body: context.method === 'HEAD' ? null : body }
    return decide(leaving, { context, issued: null, observed: false })
  }

  /** A 304, or the flag `compliance.stamps.v1` is off: decided and audited, sent without a stamp. */
  #decideUnstamped(
    context: ExchangeContext,
    answer: Answer,
    judgement: Judgement,
    inspection: Inspection,
    received: Received | null,
  ): Decided {
    const { recorder, metrics } = this.#deps
    if (answer.status !== 304) metrics.stampsMissing.inc({ tenant: context.tenant, reason: 'flag' })
    recorder.record(context, answer, judgement, {
      eventType: 'egress.completed',
      action: 'pass',
      payloadLength: inspection.payload.length,
    })
    const stamp = { stampHeader: null, link: null }
    const leaving = this.#leaveWhole(context, answer, inspection, received, inspection.payload, stamp)
    return decide(leaving, { context, issued: null, observed: false })
  }

  /** What leaves of a whole answer, `body` being its content: in its coding, or still to be coded. */
  #leaveWhole(
    context: ExchangeContext,
    answer: Answer,
    inspection: Inspection,
    received: Received | null,
    body: Buffer,
    stamp: Pick<ResponseRewrite, 'stampHeader' | 'link'>,
  ): Leaving {
    const { status, coding } = answer
    if (received === null) {
      // HEAD says of GET's answer what GET would say of it (RFC 9110 §9.3.2).
      const contentEncoding = context.method === 'HEAD' ? coding.leaves : null
      return {
        status,
        headers: this.#headers(context, answer, { reframed: true, contentEncoding, ...stamp }),
        body: null,
      }
    }
    // A content coding is a transformation, too (RFC 9110 §7.7). What was taken out of the content must not leave in any.
    const isKept =
      coding !== PLAIN &&
      body === received.content &&
      inspection.payload === received.content &&
      forbidsTransform(answer.headers['cache-control'])
    const leaves = isKept || body.length === 0 ? null : coding.leaves
    const contentEncoding = isKept ? contentEncodingOf(answer) : leaves
    const headers = this.#headers(context, answer, { reframed: true, contentEncoding, ...stamp })
    if (leaves !== null) return { status, headers, body, coding: leaves }
    const sent = isKept ? received.raw : body
    headers.push('content-length', String(sent.length))
    return { status, headers, body: sent }
  }

  #headers(
    context: ExchangeContext,
    answer: Answer,
    rewrite: Pick<ResponseRewrite, 'reframed' | 'contentEncoding' | 'stampHeader' | 'link'>,
  ): string[] {
    const { etag } = answer.headers
    // A 304 has the Vary of the answer that it stands for, of which nobody knows the coding (RFC 9110 §15.4.5).
    const mayVary = answer.status === 304 && context.accepted !== IDENTITY_ONLY
    return stampedResponseHeaders(answer.headers, {
      // HEAD is judged without the content that GET may be refused for: it must not hand out a tag that confirms it.
      etag: etag === undefined || context.method === 'HEAD' ? null : outgoingETag(etag, context.tagMark),
      codingVaries: mayVary || answer.coding !== PLAIN,
      callerSpecific: this.#deps.callerVaries && context.policy.readsCaller,
      ...rewrite,
    })
  }

  #judge(
    context: ExchangeContext,
    answer: Answer,
    inspection: Inspection,
    size: number | null,
    hex: string | null,
    nowMs: number,
  ): Judgement {
    const { metrics, workload } = this.#deps
    const input = gatherInput(
      context,
      answer,
      withHeaderFacts(inspection, answer.headers, context.policy),
      size,
      hex === null ? null : `sha256:${hex}`,
      workload,
      nowMs,
    )
    const judgement = context.policy.judge(input, inspection.undecidable, context.requestId, inspection.body)
    if (inspection.upstreamStamp === 'forged') metrics.forgedStamps.inc({ tenant: context.tenant })
    for (const { rule } of judgement.undecidable) metrics.undecidable.inc({ rule })
    for (const { rule } of judgement.shadow) metrics.shadowViolations.inc({ tenant: context.tenant, rule })
    return judgement
  }
}

const RETRY_AFTER_SECONDS = 5
/** `policies/standard/containment.rego` */
const CONTAINMENT = 'containment'
const NO_ANSWER: Answer = { status: 204, mediaType: '', headers: {}, lineage: NO_LINEAGE, coding: PLAIN }

function isToBeCoded(leaving: Leaving): leaving is Leaving & { readonly body: Buffer; readonly coding: Coding } {
  return leaving.body !== null && leaving.coding !== undefined
}

/** As the service stated it; null where it did not code. */
function contentEncodingOf(answer: Answer): string | null {
  return answer.coding.received.length === 0 ? null : (answer.headers['content-encoding'] ?? null)
}

function jcsPayloadOf(content: Buffer): Payload {
  const { digest, length } = jcsPayload(content)
  return { hex: digest.toString('hex'), length, canonicalization: 'jcs' }
}

/** A forgery that no rule refuses is taken out; one that cannot be taken out does not pass. */
function requireStripped(inspection: Inspection): void {
  if (!inspection.isUnstrippable) return
  throw new SignetError(
    'UPSTREAM_INVALID',
    'The body holds a _compliance member that is not ours and cannot be taken out',
  )
}
