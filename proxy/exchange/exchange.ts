import { createHash } from 'node:crypto'
import type { IncomingHttpHeaders, IncomingMessage, ServerResponse } from 'node:http'
import type { Dispatcher } from 'undici'
import { SignetError } from '#core/error/signet-error.ts'
import { isReadableType } from '#engine/detect/reading.ts'
import type { Judgement } from '#core/policy/join.ts'
import type { Answer } from '../egress/gather.ts'
import { decodeContent, inspectNothing, inspectUnread } from '../egress/inspect.ts'
import type { RequestEffect } from '../egress/refusal.ts'
import { writeSealed, type Sealed } from '../egress/sealed.ts'
import type { EgressValidator } from '../egress/validator.ts'
import { incomingIfMatch, incomingIfNoneMatch } from '../http/etag.ts'
import { singleFields, upstreamRequestHeaders } from '../http/headers.ts'
import { contentTypeOf, isEndless } from '../http/media-type.ts'
import { declaredLineage } from '../lineage.ts'
import type { StampVerifier } from '../stamps/foreign.ts'
import type { ProxyMetrics } from '../metrics.ts'
import type { Budget } from './budget.ts'
import { isSafe, type ExchangeContext } from './context.ts'
import { decideSidecar, hasContent, HeldAnswer, type AnswerOwner } from './held-answer.ts'
import { Passage, type PassageOwner } from './passage.ts'
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
  readonly stampVerifier: StampVerifier
  readonly nowMs: () => number
  /** Resolves when all events appended so far are on disk; null unless audit is strict. */
  readonly synced: (() => Promise<void>) | null
}

/** `answer`: what the client asked for. `sidecar`: the stamp of NAME for `NAME.stamp.json`; `upstreamTarget` is NAME's. */
export type ExchangeKind = { readonly kind: 'answer' } | { readonly kind: 'sidecar'; readonly upstreamTarget: string }

/**
 * One request and its answer: asks the upstream, holds the body up to the buffer, lets the validator judge, sends what it sealed.
 *
 *   buffering ──end──▶ turn: validator.decideWhole, events written, validator.seal ──▶ write
 *       └──too large / endless──▶ validator.permitStream ──▶ pass chunk by chunk ──end──▶ completeStream
 *
 * An undici dispatch handler: the body is looked at as it flows, without a stream object in between.
 */
export class Exchange implements Dispatcher.DispatchHandler, AnswerOwner, PassageOwner {
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
  #passage: Passage | null = null
  /** Everything is decided: what leaves, or that nothing does. */
  #settled = false
  #retried = false

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
      this.release()
      this.#onDone()
    })
  }

  get controller(): Dispatcher.DispatchController | null {
    return this.#controller
  }

  get context(): ExchangeContext {
    return this.#context
  }

  get asSidecar(): boolean {
    return this.#kind.kind === 'sidecar'
  }

  get settled(): boolean {
    return this.#settled
  }

  start(): void {
    const { method, headers } = this.#context
    if (this.#refuseContained()) return
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

  #refuseContained(): boolean {
    const { validator } = this.#deps
    this.guard(() => {
      const contained = validator.decideContained(this.#context)
      if (contained === null) return
      // Nobody else reads it, and the answer waits until it has arrived.
      this.#request.resume()
      this.send(validator.seal(contained))
    })
    return this.#settled
  }

  onRequestStart(controller: Dispatcher.DispatchController): void {
    this.#controller = controller
    if (this.#settled) controller.abort(new Error('the exchange is over'))
  }

  onResponseStart(controller: Dispatcher.DispatchController, status: number, received: IncomingHttpHeaders): void {
    // Informational answers are dropped: they hold no decision (RFC 9110 §15.2).
    if (status < 200 || this.#settled) return
    this.#controller = controller
    this.guard(() => {
      const headers = this.#context.mode === 'enforce' ? singleFields(received) : received
      const { mediaType } = contentTypeOf(headers['content-type'])
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
      if (!hasContent(this.#context, answer)) return
      // Where only its content tells whether it is read, a first part of it is held to tell by.
      const isTooLarge =
        length !== null && length > this.#deps.bufferBytes && isReadableType(mediaType) !== 'by-content'
      if (isEndless(mediaType) || isTooLarge) this.#openStream(answer, length)
    })
  }

  onResponseData(controller: Dispatcher.DispatchController, chunk: Buffer): void {
    if (this.#settled) return
    this.guard(() => {
      if (this.#passage !== null) {
        this.#passage.take(controller, chunk)
        return
      }
      this.#chunks.push(chunk)
      this.#held += chunk.length
      if (!this.#deps.budget.take(chunk.length)) {
        this.#held -= chunk.length
        throw new SignetError('OVERLOADED', OVERLOADED)
      }
      if (this.#held > this.#deps.bufferBytes && this.#answer !== null) this.#passHeld(controller, this.#answer)
    })
  }

  onResponseEnd(): void {
    if (this.#settled) return
    const answer = this.#answer
    const passage = this.#passage
    if (answer === null)
      this.#fail(new SignetError('UPSTREAM_INVALID', 'The service ended its answer before it began'), this.effect)
    else if (passage === null) this.guard(() => this.#holdWhole(answer))
    else this.guard(() => passage.end(() => this.#complete(answer, passage)))
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
    this.#fail(failure, this.#answer === null && failure.code === 'UPSTREAM_UNREACHABLE' ? 'none' : this.effect)
  }

  get #hasBody(): boolean {
    const { headers } = this.#context
    return headers['content-length'] !== undefined || headers['transfer-encoding'] !== undefined
  }

  /** A whole answer: its Content-Encoding is removed, then it is decided on at the end of the turn. */
  #holdWhole(answer: Answer): void {
    const { budget, bufferBytes, turn, stampVerifier } = this.#deps
    const raw = this.#chunks.length === 1 ? (this.#chunks[0] as Buffer) : Buffer.concat(this.#chunks, this.#held)
    const decide = (content: Buffer | null): void => turn.add(new HeldAnswer(this, this.#deps, answer, raw, content))
    const hold = (content: Buffer | null): void => {
      const asking = content === null ? null : stampVerifier.prepare(content)
      if (asking === null) decide(content)
      else void asking.then(() => decide(content))
    }
    const encoding = answer.headers['content-encoding']
    if (encoding === undefined || encoding === 'identity' || !hasContent(this.#context, answer)) {
      hold(raw)
      return
    }
    // What it may become counts before it is decoded: a small body can grow to the whole buffer.
    if (!budget.take(bufferBytes)) throw new SignetError('OVERLOADED', OVERLOADED)
    this.#held += bufferBytes
    decodeContent(raw, encoding, bufferBytes).then(
      (content) =>
        this.guard(() => {
          // Whoever settled it meanwhile has given everything back.
          if (this.#settled) return
          const unused = bufferBytes - content.length
          budget.give(unused)
          this.#held -= unused
          hold(content)
        }),
      (error: unknown) => {
        if (this.#context.mode === 'shadow') hold(null)
        else this.fail(error)
      },
    )
  }

  /** Too much to hold: what is held passes, and what follows it. */
  #passHeld(controller: Dispatcher.DispatchController, answer: Answer): void {
    const chunks = this.#chunks
    const stated = answer.headers['content-length']
    this.#openStream(answer, stated === undefined ? null : Number(stated))
    const passage = this.#passage
    if (this.#settled || passage === null) return
    this.#chunks = []
    for (const held of chunks) passage.take(controller, held)
    // Without strict audit they are on their way; else they wait in the passage and stay counted.
    if (!passage.isWaiting) this.release()
  }

  /** Under `off` and `shadow`: passes without being held. */
  #openTransparent(answer: Answer): void {
    const { validator } = this.#deps
    const passed = { judgement: null, inspection: inspectNothing(this.#context.policy), trailer: false }
    this.#passage = new Passage(this, this.#response, null, passed)
    this.#passage.open(validator.seal(validator.decideTransparent(this.#context, answer, null)), null)
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
      const passed = { judgement: null, inspection, trailer: false }
      this.#passage = new Passage(this, null, createHash('sha256'), passed)
      return
    }
    const permit = validator.permitStream(this.#context, answer, inspection, length)
    if (!('trailer' in permit)) {
      this.send(validator.seal(permit))
      this.#controller?.abort(new Error('refused by policy'))
      return
    }
    const { judgement, trailer } = permit
    this.#passage = new Passage(this, this.#response, createHash('sha256'), { judgement, inspection, trailer })
    this.#passage.open(validator.seal(permit.decided), this.#deps.synced)
  }

  #complete(answer: Answer, passage: Passage): void {
    const { validator, synced } = this.#deps
    const { inspection, judgement, trailer } = passage.passed
    const end = (): void => void this.#response.end()
    if (!passage.isDigested) {
      this.#settled = true
      end()
      return
    }
    const sized = passage.sized()
    if (this.#kind.kind === 'sidecar') {
      this.#passage = null
      this.send(validator.seal(decideSidecar(validator, this.#context, answer, inspection, sized)))
      return
    }
    const stamp = validator.completeStream(this.#context, answer, inspection, judgement as Judgement, sized)
    if (trailer && stamp !== null) this.#response.addTrailers({ 'Compliance-Stamp': stamp })
    this.#settled = true
    if (synced === null) end()
    else synced().then(end, (error: unknown) => this.#abandon(error))
  }

  send(sealed: Sealed): void {
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
      if (response.writableLength > 0) this.expectProgress()
    }
    if (this.#deps.synced === null) write()
    else this.#deps.synced().then(write, (error: unknown) => this.#abandon(error))
  }

  /** A client that takes nothing of what is written for it is cut off: it would hold memory and an upstream connection for good. */
  expectProgress(): void {
    this.#response.socket?.setTimeout(this.#deps.bodyTimeoutMs)
  }

  /** Runs a step; whatever it throws becomes a refusal, since the alternative is an answer nobody decided on. */
  guard(step: () => void): void {
    try {
      step()
    } catch (error) {
      this.fail(error)
    }
  }

  fail(error: unknown): void {
    this.#fail(error, this.effect)
  }

  get effect(): RequestEffect {
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
          this.#passage?.passed.judgement ?? null,
          this.#passage?.length ?? 0,
          code,
        )
      }
      // Without the terminating chunk, so that the client sees that it has not got all of it (RFC 9112 §7.1, §8).
      this.#abandon(error)
      return
    }
    const { validator } = this.#deps
    this.send(validator.seal(validator.decideFailure(this.#context, error, status, effect)))
    this.#controller?.abort(new Error('the exchange failed'))
  }

  #abandon(error: unknown): void {
    this.#settled = true
    this.#controller?.abort(error instanceof Error ? error : new Error('the exchange failed'))
    this.#response.destroy()
  }

  #clientGone(): void {
    const passage = this.#passage
    if (this.#answer !== null && passage !== null && passage.passed.judgement !== null) {
      const { judgement } = passage.passed
      this.#deps.validator.abortStream(this.#context, this.#answer, judgement, passage.length, 'CLIENT_GONE')
    }
    this.#settled = true
    this.#controller?.abort(new Error('the client went away'))
  }

  release(): void {
    this.#deps.budget.give(this.#held)
    this.#held = 0
    this.#chunks = []
  }
}

const OVERLOADED = 'The proxy holds as many response bytes as it may; try again shortly'
