import { createHash } from 'node:crypto'
import type { IncomingHttpHeaders, IncomingMessage, ServerResponse } from 'node:http'
import type { Dispatcher } from 'undici'
import { SignetError } from '#core/error/signet-error.ts'
import { isReadableType } from '#engine/detect/reading.ts'
import type { Judgement } from '#core/policy/join.ts'
import type { Answer } from '../egress/gather.ts'
import { answerCoding, PLAIN, UNREADABLE } from '../coding/answer-coding.ts'
import { decodeContent, decodeSmall, type Decoded } from '../coding/decode.ts'
import { DECODER_BYTES } from '../coding/decoder.ts'
import { CodingFault } from '../coding/fault.ts'
import type { Lanes } from '../coding/lanes.ts'
import { inspectNothing, inspectUnread } from '../egress/inspect.ts'
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
import { CodedPassage } from './coded-passage.ts'
import { Passage, type Flow, type Passed, type PassageOwner } from './passage.ts'
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
  /** Bytes that a coded byte may become in content past the buffer. */
  readonly maxRatio: number
  readonly coders: Lanes
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
  #passage: Passage | CodedPassage | null = null
  /** What the decoder of a coded passage may hold, counted for as long as it lives. */
  #decoderBytes = 0
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
      this.#closeDecoder()
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
            acceptEncoding: this.#context.accepted.upstream,
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
      const answer: Answer = {
        status,
        mediaType,
        headers,
        coding: PLAIN,
        lineage: declaredLineage(headers, this.#deps.nowMs()),
      }
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
      const coded = this.#withCoding(answer)
      this.#answer = coded
      const length = headers['content-length'] === undefined ? null : Number(headers['content-length'])
      if (!hasContent(this.#context, answer)) return
      // Where only its content tells whether it is read, a first part of it is held to tell by.
      const isTooLarge =
        length !== null && length > this.#deps.bufferBytes && isReadableType(mediaType) !== 'by-content'
      if (isEndless(mediaType) || isTooLarge) this.#openStream(coded, length)
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

  /** Its codings, where they can be removed and so judged; under shadow an answer passes without, too. */
  #withCoding(answer: Answer): Answer {
    const { accepted, mode } = this.#context
    try {
      const coding = answerCoding(answer.headers['content-encoding'], answer.status, accepted)
      return coding === PLAIN ? answer : { ...answer, coding }
    } catch (error) {
      if (mode === 'enforce' && hasContent(this.#context, answer)) throw error
      return { ...answer, coding: UNREADABLE }
    }
  }

  /** A whole answer: its content codings are removed, then it is decided on at the end of the turn. */
  #holdWhole(answer: Answer): void {
    const raw = this.#chunks.length === 1 ? (this.#chunks[0] as Buffer) : Buffer.concat(this.#chunks, this.#held)
    if (answer.coding.received.length === 0 || !hasContent(this.#context, answer)) {
      this.#decideOn(answer, raw, answer.coding === UNREADABLE && hasContent(this.#context, answer) ? null : raw)
      return
    }
    void this.#holdDecoded(answer, raw)
  }

  async #holdDecoded(answer: Answer, raw: Buffer): Promise<void> {
    const { coders, bufferBytes } = this.#deps
    let decoded: Decoded | null
    try {
      const small = decodeSmall(raw, answer.coding.received, bufferBytes)
      decoded =
        small === null
          ? await coders.run(() => this.#decode(raw, answer))
          : { kind: 'whole', content: this.#hold(small) }
    } catch (error) {
      if (this.#context.mode === 'shadow') this.#decideOn(answer, raw, null)
      else this.fail(error)
      return
    }
    this.guard(() => this.#takeDecoded(answer, raw, decoded))
  }

  /** Counts what is held besides. */
  #hold(content: Buffer): Buffer {
    if (!this.#deps.budget.take(content.length)) throw new SignetError('OVERLOADED', OVERLOADED)
    this.#held += content.length
    return content
  }

  /** `content`: without codings; null where they cannot be removed. */
  #decideOn(answer: Answer, raw: Buffer, content: Buffer | null): void {
    const { turn, stampVerifier } = this.#deps
    const decide = (): void => turn.add(new HeldAnswer(this, this.#deps, answer, raw, content))
    const asking = content === null ? null : stampVerifier.prepare(content)
    if (asking === null) decide()
    else void asking.then(decide)
  }

  /** What it may become counts before it is decoded: a small body can grow to the whole buffer. Null where nobody waits any more. */
  async #decode(raw: Buffer, answer: Answer): Promise<Decoded | null> {
    const { budget, bufferBytes, maxRatio } = this.#deps
    if (this.#settled) return null
    if (!budget.take(bufferBytes)) throw new SignetError('OVERLOADED', OVERLOADED)
    this.#held += bufferBytes
    const decoded = await decodeContent(raw, answer.coding.received, { freeBytes: bufferBytes, maxRatio })
    // Whoever settled it meanwhile has given everything back.
    if (this.#settled) return null
    const unused = decoded.kind === 'whole' ? bufferBytes - decoded.content.length : 0
    budget.give(unused)
    this.#held -= unused
    return decoded
  }

  #takeDecoded(answer: Answer, raw: Buffer, decoded: Decoded | null): void {
    if (decoded === null || this.#settled) return
    if (decoded.kind === 'whole') {
      this.#decideOn(answer, raw, decoded.content)
      return
    }
    if (this.#context.mode === 'shadow') {
      this.#decideOn(answer, raw, null)
      return
    }
    // Too much to hold, though not as it came: passes as such a body does that came plain.
    this.#openStream(answer, decoded.length, decoded.prefix)
    const passage = this.#passage
    if (this.#settled || passage === null) return
    this.#takeHeld(passage, NO_FLOW)
    passage.end(() => this.#complete(answer, passage))
  }

  /** Too much to hold: what is held passes, and what follows it. */
  #passHeld(controller: Dispatcher.DispatchController, answer: Answer): void {
    const stated = answer.headers['content-length']
    this.#openStream(answer, stated === undefined ? null : Number(stated))
    const passage = this.#passage
    if (this.#settled || passage === null) return
    this.#takeHeld(passage, controller)
    // Without strict audit they are on their way; else they wait in the passage and stay counted.
    if (!passage.isWaiting) this.release()
  }

  #takeHeld(passage: Passage | CodedPassage, flow: Flow | null): void {
    const chunks = this.#chunks
    this.#chunks = []
    for (const held of chunks) passage.take(flow ?? NO_FLOW, held)
  }

  /** Under `off` and `shadow`: passes without being held. */
  #openTransparent(answer: Answer): void {
    const { validator } = this.#deps
    const passed = { judgement: null, inspection: inspectNothing(this.#context.policy), trailer: false }
    this.#passage = new Passage(this, this.#response, null, passed)
    this.#passage.open(validator.seal(validator.decideTransparent(this.#context, answer, null)), null)
  }

  /**
   * `length`: as stated, of the body as it comes; of content that is decoded already, its own. `prefix`: the beginning of that; else what
   * is held.
   */
  #openStream(answer: Answer, length: number | null, prefix: Buffer | null = null): void {
    const { validator } = this.#deps
    const { received } = answer.coding
    const isCoded = received.length > 0 || answer.coding === UNREADABLE
    const size = isCoded && prefix === null ? null : length
    const beginning = prefix ?? (isCoded ? NO_BYTES : Buffer.concat(this.#chunks))
    const inspection = inspectUnread(this.#context.policy, answer.mediaType, beginning)
    if (this.#context.mode === 'shadow') {
      validator.observe(this.#context, answer, inspection, size)
      this.#openTransparent(answer)
      return
    }
    this.#countDecoder(answer)
    if (this.#kind.kind === 'sidecar') {
      this.#passage = this.#passageTo(null, answer, { judgement: null, inspection, trailer: false })
      return
    }
    const permit = validator.permitStream(this.#context, answer, inspection, size)
    if (!('trailer' in permit)) {
      this.send(validator.seal(permit))
      this.#controller?.abort(new Error('refused by policy'))
      return
    }
    const { judgement, trailer } = permit
    const passage = this.#passageTo(this.#response, answer, { judgement, inspection, trailer })
    this.#passage = passage
    if (passage instanceof CodedPassage) this.#takeHeld(passage, prefix === null ? this.#controller : NO_FLOW)
    passage.open(validator.seal(permit.decided), this.#deps.synced)
  }

  #passageTo(response: ServerResponse | null, answer: Answer, passed: Passed): Passage | CodedPassage {
    const { received, taken } = answer.coding
    if (received.length === 0) return new Passage(this, response, createHash('sha256'), passed)
    const { bufferBytes, maxRatio } = this.#deps
    const limits = { freeBytes: bufferBytes, maxRatio }
    return new CodedPassage(this, response, passed, { codings: received, limits, asItCame: taken })
  }

  #countDecoder(answer: Answer): void {
    const bytes = answer.coding.received.reduce((sum, coding) => sum + DECODER_BYTES[coding], 0)
    if (!this.#deps.budget.take(bytes)) throw new SignetError('OVERLOADED', OVERLOADED)
    this.#decoderBytes = bytes
  }

  #closeDecoder(): void {
    this.#deps.budget.give(this.#decoderBytes)
    this.#decoderBytes = 0
    if (this.#passage instanceof CodedPassage) this.#passage.close()
  }

  #complete(answer: Answer, passage: Passage | CodedPassage): void {
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
    if (error instanceof CodingFault) this.#deps.metrics.codingRefusals.inc({ reason: error.reason })
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
const NO_BYTES = Buffer.alloc(0)
/** All of it has come: there is nothing to hold up. */
const NO_FLOW: Flow = { pause: () => undefined, resume: () => undefined }
