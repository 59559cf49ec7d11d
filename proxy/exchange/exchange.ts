import { createHash, type Hash } from 'node:crypto'
import type { IncomingHttpHeaders, IncomingMessage, ServerResponse } from 'node:http'
import type { Dispatcher } from 'undici'
import { SignetError } from '#core/error/signet-error.ts'
import { isReadableType } from '#engine/detect/reading.ts'
import { mediaTypeOf } from '#core/stamp/subject.ts'
import type { Judgement } from '#core/policy/join.ts'
import type { Answer } from '../egress/gather.ts'
import {
  decodeContent,
  inspectBody,
  inspectNothing,
  inspectUnread,
  type Inspection,
  type StampCheck,
} from '../egress/inspect.ts'
import type { RequestEffect } from '../egress/refusal.ts'
import { openSealed, writeSealed, type Sealed } from '../egress/sealed.ts'
import type { EgressValidator } from '../egress/validator.ts'
import { incomingIfMatch, incomingIfNoneMatch } from '../http/etag.ts'
import { singleFields, upstreamRequestHeaders } from '../http/headers.ts'
import { charsetOf, isEndless } from '../http/media-type.ts'
import { declaredLineage } from '../lineage.ts'
import type { ProxyMetrics } from '../metrics.ts'
import type { Budget } from './budget.ts'
import { isSafe, type ExchangeContext } from './context.ts'
import { detachedBody, requestArrived } from './request-body.ts'
import type { Turn } from './turn.ts'
import { upstreamFailure, worthRetrying } from './upstream-failure.ts'

export type ExchangeDeps = {
  readonly upstream: Dispatcher
  readonly upstreamOrigin: string
  readonly validator: EgressValidator
  readonly metrics: ProxyMetrics
  readonly budget: Budget
  readonly turn: Turn
  readonly bufferBytes: number
  readonly headersTimeoutMs: number
  readonly bodyTimeoutMs: number
  readonly checkStamp: StampCheck
  readonly nowMs: () => number
  /** Resolves when all events appended so far are on disk; null unless audit is strict. */
  readonly synced: (() => Promise<void>) | null
}

/** `answer`: what the client asked for. `sidecar`: the stamp of NAME for `NAME.stamp.json`; `upstreamTarget` is NAME's. */
export type ExchangeKind = { readonly kind: 'answer' } | { readonly kind: 'sidecar'; readonly upstreamTarget: string }

/** `hash` is null where nothing is stamped. */
type Passing = {
  judgement: Judgement | null
  inspection: Inspection
  trailer: boolean
  hash: Hash | null
  length: number
  /** Bytes that came while the head waits to be sent; null once it has left. */
  waiting: Buffer[] | null
  /** The upstream's answer ended while the head waits. */
  ended: boolean
}

/**
 * One request and its answer: asks the upstream, holds the body up to the buffer, lets the validator judge, sends what it sealed.
 *
 *   buffering ──end──▶ validator.sealWhole ──▶ write
 *       └──too large / endless──▶ validator.permitStream ──▶ pass chunk by chunk ──end──▶ completeStream
 *
 * An undici dispatch handler: the body is looked at as it flows, without a stream object in between.
 */
export class Exchange implements Dispatcher.DispatchHandler {
  readonly #deps: ExchangeDeps
  readonly #context: ExchangeContext
  readonly #kind: ExchangeKind
  readonly #request: IncomingMessage
  readonly #response: ServerResponse
  readonly #onDone: () => void

  #controller: Dispatcher.DispatchController | null = null
  #answer: Answer | null = null
  #chunks: Buffer[] = []
  #held = 0
  /** Set once the body is passed on, or only digested, instead of held. */
  #passing: Passing | null = null
  /** Everything is decided: what leaves, or that nothing does. */
  #settled = false
  #retried = false
  #paused = false

  constructor(
    deps: ExchangeDeps,
    context: ExchangeContext,
    kind: ExchangeKind,
    request: IncomingMessage,
    response: ServerResponse,
    onDone: () => void,
  ) {
    this.#deps = deps
    this.#context = context
    this.#kind = kind
    this.#request = request
    this.#response = response
    this.#onDone = onDone
    // Fires when the answer is flushed, and when the client went away before: until then what is held for it counts.
    response.once('close', () => {
      if (!this.#settled) this.#clientGone()
      this.#release()
      this.#onDone()
    })
  }

  start(): void {
    const { method, headers } = this.#context
    const transparent = this.#context.mode !== 'enforce'
    const conditional = this.#kind.kind === 'answer'
    const ifNoneMatch = headers['if-none-match']
    const ifMatch = headers['if-match']
    try {
      this.#deps.upstream.dispatch(
        {
          origin: this.#deps.upstreamOrigin,
          path: this.#kind.kind === 'sidecar' ? this.#kind.upstreamTarget : this.#context.target,
          method: method,
          headers: upstreamRequestHeaders(this.#request.rawHeaders, headers, {
            requestId: this.#context.requestId,
            traceparent: `00-${this.#context.traceId}-${this.#context.spanId}-01`,
            transparent,
            ifNoneMatch:
              !conditional || ifNoneMatch === undefined
                ? null
                : incomingIfNoneMatch(ifNoneMatch, this.#context.tagMark, isSafe(method)),
            ifMatch: !conditional || ifMatch === undefined ? null : incomingIfMatch(ifMatch),
            clientAddress: this.#request.socket.remoteAddress ?? 'unknown',
            scheme: 'http',
          }),
          body: this.#hasBody ? detachedBody(this.#request) : null,
          headersTimeout: this.#deps.headersTimeoutMs,
          bodyTimeout: this.#deps.bodyTimeoutMs,
        },
        this,
      )
    } catch (error) {
      // undici refuses what it would not put on the wire (a path with spaces, a broken header).
      this.#fail(
        new SignetError('REQUEST_INVALID', 'The request cannot be passed on: its target or a header is malformed', {
          cause: error,
        }),
        'none',
      )
    }
  }

  onRequestStart(controller: Dispatcher.DispatchController): void {
    this.#controller = controller
    if (this.#settled) controller.abort(new Error('the exchange is over'))
  }

  onResponseStart(controller: Dispatcher.DispatchController, status: number, received: IncomingHttpHeaders): void {
    // Informational answers are dropped: they hold no decision (RFC 9110 §15.2).
    if (status < 200 || this.#settled) return
    this.#controller = controller
    this.#guard(() => {
      const headers = this.#context.mode === 'enforce' ? singleFields(received) : received
      const mediaType = mediaTypeOf(headers['content-type'])
      const answer: Answer = { status, mediaType, headers, lineage: declaredLineage(headers, this.#deps.nowMs()) }
      this.#answer = answer
      if (status > 599)
        throw new SignetError(
          'UPSTREAM_INVALID',
          `The service answered with the status ${status}, which HTTP does not have`,
        )
      if (this.#context.mode === 'off') {
        this.#openTransparent(answer)
        return
      }
      const length = headers['content-length'] === undefined ? null : Number(headers['content-length'])
      if (!this.#hasContent(answer)) return
      // Where only its content tells whether it is read, a first part of it is held to tell by.
      const isTooLarge =
        length !== null && length > this.#deps.bufferBytes && isReadableType(mediaType) !== 'by-content'
      if (isEndless(mediaType) || isTooLarge) this.#openStream(answer, length)
    })
  }

  onResponseData(controller: Dispatcher.DispatchController, chunk: Buffer): void {
    if (this.#settled) return
    this.#guard(() => {
      if (this.#passing !== null) {
        this.#pass(controller, chunk)
        return
      }
      this.#chunks.push(chunk)
      this.#held += chunk.length
      if (!this.#deps.budget.take(chunk.length)) {
        this.#held -= chunk.length
        throw new SignetError('OVERLOADED', OVERLOADED)
      }
      if (this.#held > this.#deps.bufferBytes && this.#answer !== null) {
        const chunks = this.#chunks
        const stated = this.#answer.headers['content-length']
        this.#openStream(this.#answer, stated === undefined ? null : Number(stated))
        if (this.#settled) return
        this.#chunks = []
        for (const held of chunks) this.#pass(controller, held)
        // Without strict audit they are on their way; else they wait in `waiting` and stay counted.
        if (!this.#isWaiting) this.#release()
      }
    })
  }

  onResponseEnd(): void {
    if (this.#settled) return
    const answer = this.#answer
    if (answer === null) {
      this.#fail(new SignetError('UPSTREAM_INVALID', 'The service ended its answer before it began'), this.#effect())
      return
    }
    if (this.#passing === null) this.#deps.turn.add(() => this.#guard(() => this.#finishWhole(answer)))
    else this.#guard(() => this.#complete(answer, this.#passing as Passing))
  }

  onResponseError(_controller: Dispatcher.DispatchController, error: Error): void {
    if (this.#settled) return
    if (this.#answer === null && !this.#retried && !this.#hasBody && worthRetrying(this.#context.method, error)) {
      // The upstream closed an idle connection just as we used it (RFC 9112 §9.3.1): once more, on a new one.
      this.#retried = true
      this.start()
      return
    }
    const failure = upstreamFailure(error)
    this.#deps.metrics.upstreamErrors.inc({ code: failure.code })
    this.#fail(failure, this.#answer === null && failure.code === 'UPSTREAM_UNREACHABLE' ? 'none' : this.#effect())
  }

  /** The head waits for its event to be on disk. */
  get #isWaiting(): boolean {
    return this.#passing !== null && this.#passing.waiting !== null
  }

  get #hasBody(): boolean {
    const { headers } = this.#context
    return headers['content-length'] !== undefined || headers['transfer-encoding'] !== undefined
  }

  #hasContent(answer: Answer): boolean {
    return this.#context.method !== 'HEAD' && answer.status !== 204 && answer.status !== 304
  }

  #finishWhole(answer: Answer): void {
    // The client may have gone since the answer was whole.
    if (this.#settled) return
    const raw = this.#chunks.length === 1 ? (this.#chunks[0] as Buffer) : Buffer.concat(this.#chunks, this.#held)
    const encoding = answer.headers['content-encoding']
    if (encoding === undefined || encoding === 'identity' || !this.#hasContent(answer)) {
      this.#judgeWhole(answer, raw, raw)
      return
    }
    // What it may become counts before it is decoded: a small body can grow to the whole buffer.
    if (!this.#deps.budget.take(this.#deps.bufferBytes)) throw new SignetError('OVERLOADED', OVERLOADED)
    this.#held += this.#deps.bufferBytes
    decodeContent(raw, encoding, this.#deps.bufferBytes).then(
      (decoded) =>
        this.#guard(() => {
          // Whoever settled it meanwhile has given everything back.
          if (this.#settled) return
          const unused = this.#deps.bufferBytes - decoded.length
          this.#deps.budget.give(unused)
          this.#held -= unused
          this.#judgeWhole(answer, raw, decoded)
        }),
      (error: unknown) => {
        // Under shadow an answer that cannot be read still passes as it came; it is decided as unread.
        if (this.#context.mode === 'shadow')
          this.#guard(() =>
            this.#sendShadow(answer, raw, inspectUnread(this.#context.policy, answer.mediaType, NO_BYTES), null),
          )
        else this.#fail(error, this.#effect())
      },
    )
  }

  #judgeWhole(answer: Answer, raw: Buffer, content: Buffer): void {
    if (this.#settled) return
    const { policy, mode } = this.#context
    const { validator } = this.#deps
    const hasContent = this.#hasContent(answer)
    const inspection = hasContent
      ? inspectBody(
          content,
          { mediaType: answer.mediaType, charset: charsetOf(answer.headers['content-type']) },
          policy,
          this.#deps.checkStamp,
        )
      : inspectNothing(policy)
    if (mode === 'shadow') {
      this.#sendShadow(answer, raw, inspection, inspection.payload.length)
    } else if (this.#kind.kind === 'sidecar') {
      const { payload } = inspection
      this.#sidecar(answer, inspection, {
        digest: createHash('sha256').update(payload).digest(),
        length: payload.length,
      })
    } else {
      this.#send(validator.sealWhole(this.#context, answer, inspection, hasContent))
    }
  }

  #sendShadow(answer: Answer, raw: Buffer, inspection: Inspection, size: number | null): void {
    this.#deps.validator.observe(this.#context, answer, inspection, size)
    this.#send(this.#deps.validator.sealTransparent(this.#context, answer, this.#hasContent(answer) ? raw : null))
  }

  #sidecar(answer: Answer, inspection: Inspection, sized: { digest: Buffer; length: number }): void {
    if (answer.status !== 200) {
      this.#fail(
        new SignetError(
          'STAMP_MISSING',
          `There is no stamp here: the file it would belong to answered ${answer.status}`,
        ),
        'none',
      )
      return
    }
    this.#send(this.#deps.validator.sealSidecar(this.#context, answer, inspection, sized))
  }

  /** Under `off`: passes without being looked at. */
  #openTransparent(answer: Answer): void {
    const sealed = this.#deps.validator.sealTransparent(this.#context, answer, null)
    this.#passing = {
      judgement: null,
      inspection: inspectNothing(this.#context.policy),
      trailer: false,
      hash: null,
      length: 0,
      waiting: null,
      ended: false,
    }
    openSealed(this.#response, sealed)
  }

  #openStream(answer: Answer, length: number | null): void {
    const { validator } = this.#deps
    const encoded =
      answer.headers['content-encoding'] !== undefined && answer.headers['content-encoding'] !== 'identity'
    const inspection = inspectUnread(this.#context.policy, answer.mediaType, Buffer.concat(this.#chunks))
    if (this.#context.mode === 'shadow') {
      validator.observe(this.#context, answer, inspection, length)
      this.#openTransparent(answer)
      return
    }
    if (encoded) {
      // The digest covers content after decoding; a stream that we cannot decode as it flows cannot be stamped truthfully.
      throw new SignetError(
        'UPSTREAM_INVALID',
        'The service encoded an answer that is too large to decode here; it was asked for identity',
      )
    }
    if (this.#kind.kind === 'sidecar') {
      this.#passing = {
        judgement: null,
        inspection,
        trailer: false,
        hash: createHash('sha256'),
        length: 0,
        waiting: null,
        ended: false,
      }
      return
    }
    const permit = validator.permitStream(this.#context, answer, inspection, length)
    if (!('sealed' in permit)) {
      this.#send(permit)
      this.#controller?.abort(new Error('refused by policy'))
      return
    }
    this.#passing = {
      judgement: permit.judgement,
      inspection,
      trailer: permit.trailer,
      hash: createHash('sha256'),
      length: 0,
      waiting: null,
      ended: false,
    }
    this.#openWhenSynced(permit.sealed, this.#passing, answer)
  }

  /** Under strict audit the head waits until its event is on disk; what comes meanwhile is held, and the upstream paused. */
  #openWhenSynced(sealed: Sealed, passing: Passing, answer: Answer): void {
    const controller = this.#controller
    if (this.#deps.synced === null || controller === null) {
      openSealed(this.#response, sealed)
      return
    }
    passing.waiting = []
    controller.pause()
    this.#deps.synced().then(
      () =>
        this.#guard(() => {
          const held = passing.waiting ?? []
          passing.waiting = null
          if (this.#settled || this.#response.destroyed) return
          openSealed(this.#response, sealed)
          for (const chunk of held) this.#write(controller, chunk)
          this.#release()
          if (passing.ended) this.#complete(answer, passing)
          else if (!this.#paused) controller.resume()
        }),
      (error: unknown) => this.#fail(error, this.#effect()),
    )
  }

  #pass(controller: Dispatcher.DispatchController, chunk: Buffer): void {
    const passing = this.#passing
    if (passing === null) return
    passing.hash?.update(chunk)
    passing.length += chunk.length
    if (this.#kind.kind === 'sidecar') return
    if (passing.waiting === null) this.#write(controller, chunk)
    else passing.waiting.push(chunk)
  }

  #write(controller: Dispatcher.DispatchController, chunk: Buffer): void {
    if (this.#response.write(chunk) || this.#paused) return
    this.#paused = true
    controller.pause()
    this.#expectProgress()
    this.#response.once('drain', () => {
      this.#paused = false
      this.#response.socket?.setTimeout(0)
      controller.resume()
    })
  }

  #complete(answer: Answer, passing: Passing): void {
    if (passing.waiting !== null) {
      passing.ended = true
      return
    }
    if (passing.hash === null) {
      this.#settled = true
      this.#response.end()
      return
    }
    const sized = { digest: passing.hash.digest(), length: passing.length }
    if (this.#kind.kind === 'sidecar') {
      this.#passing = null
      this.#sidecar(answer, passing.inspection, sized)
      return
    }
    const trailer = this.#deps.validator.completeStream(
      this.#context,
      answer,
      passing.inspection,
      passing.judgement as Judgement,
      sized,
    )
    if (passing.trailer && trailer !== null) this.#response.addTrailers({ 'Compliance-Stamp': trailer })
    this.#settled = true
    const end = (): void => void this.#response.end()
    if (this.#deps.synced === null) end()
    else this.#deps.synced().then(end, (error: unknown) => this.#abandon(error))
  }

  #send(sealed: Sealed): void {
    const response = this.#response
    this.#settled = true
    this.#chunks = []
    const write = (): void => {
      if (response.destroyed) return
      try {
        writeSealed(response, sealed, this.#hasBody && !this.#request.complete ? requestArrived(this.#request) : null)
      } catch (error) {
        // A header that Node would not write: nothing has left, and a client must not wait for what never comes.
        this.#abandon(error)
        return
      }
      if (response.writableLength > 0) this.#expectProgress()
    }
    if (this.#deps.synced === null) write()
    else this.#deps.synced().then(write, (error: unknown) => this.#abandon(error))
  }

  /** A client that takes nothing of what is written for it is cut off: it would hold memory and an upstream connection for good. */
  #expectProgress(): void {
    this.#response.socket?.setTimeout(this.#deps.bodyTimeoutMs)
  }

  /** Runs a step; whatever it throws becomes a refusal, since the alternative is an answer nobody decided on. */
  #guard(step: () => void): void {
    try {
      step()
    } catch (error) {
      this.#fail(error, this.#effect())
    }
  }

  #effect(): RequestEffect {
    if (isSafe(this.#context.method)) return 'none'
    return this.#answer !== null && this.#answer.status < 400 ? 'completed' : 'unknown'
  }

  #fail(error: unknown, effect: RequestEffect): void {
    if (this.#settled) return
    const status = this.#answer?.status ?? null
    if (this.#response.headersSent) {
      const code = error instanceof SignetError ? error.code : 'INTERNAL'
      if (this.#answer !== null && this.#context.mode === 'enforce') {
        this.#deps.validator.abortStream(
          this.#context,
          this.#answer,
          this.#passing?.judgement ?? null,
          this.#passing?.length ?? 0,
          code,
        )
      }
      // Without the terminating chunk, so that the client sees that it has not got all of it (RFC 9112 §7.1, §8).
      this.#abandon(error)
      return
    }
    this.#send(this.#deps.validator.refuseByError(this.#context, error, status, effect))
    this.#controller?.abort(new Error('the exchange failed'))
  }

  #abandon(error: unknown): void {
    this.#settled = true
    this.#controller?.abort(error instanceof Error ? error : new Error('the exchange failed'))
    this.#response.destroy()
  }

  #clientGone(): void {
    if (this.#answer !== null && this.#passing?.judgement != null) {
      this.#deps.validator.abortStream(
        this.#context,
        this.#answer,
        this.#passing.judgement,
        this.#passing.length,
        'CLIENT_GONE',
      )
    }
    this.#settled = true
    this.#controller?.abort(new Error('the client went away'))
  }

  #release(): void {
    this.#deps.budget.give(this.#held)
    this.#held = 0
    this.#chunks = []
  }
}

const NO_BYTES = Buffer.alloc(0)
const OVERLOADED = 'The proxy holds as many response bytes as it may; try again shortly'
