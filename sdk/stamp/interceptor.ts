import type { IncomingHttpHeaders } from 'node:http'
import { stringify } from 'node:querystring'
import type { Duplex } from 'node:stream'
import type { Dispatcher } from 'undici'
import { SignetError } from '#core/error/signet-error.ts'
import { MAX_STAMP_BYTES, type VerifiedStamp } from '#core/stamp/verify.ts'
import { DEFAULT_MAX_BYTES, DEFAULT_TIMEOUT_MS, verifyAnswer, type FetchStamp, type VerifyOptions } from './answer.ts'
import { tooLarge } from './bounded.ts'
import { decodeContent } from './decode.ts'
import { HeldController } from './held-controller.ts'

export type InterceptorOptions = VerifyOptions & {
  /** Told before the application gets the answer. */
  readonly onVerified?: (verified: VerifiedStamp, request: { method: string; target: string }) => void
}

type Dispatch = Dispatcher['dispatch']
type Head = { readonly status: number; readonly headers: IncomingHttpHeaders; readonly message: string | undefined }

const UNKNOWN_ORIGIN = 'http://origin.invalid'

/**
 * An undici interceptor, `agent.compose(verifyInterceptor(…))`: answers are held, up to a limit, until their stamps were verified, and reach
 * the application decoded, at once. What cannot be verified fails the request with a SignetError, whose `code` says what is wrong, and no
 * header or byte of it is handed on; 1xx answers neither. Upgrades and CONNECT are refused. Place it outside of interceptors that follow
 * redirects or repeat requests.
 */
export function verifyInterceptor(options: InterceptorOptions): Dispatcher.DispatcherComposeInterceptor {
  return (dispatch) => (opts, handler) => {
    const { query, ...rest } = opts
    if (rest.method === 'CONNECT' || (rest.upgrade !== undefined && rest.upgrade !== null && rest.upgrade !== false))
      throw new SignetError(
        'STAMP_MISSING',
        'what is upgraded carries no stamp; only requests with answers can be verified',
      )
    if (query !== undefined && /[?#]/.test(rest.path))
      throw new TypeError('give the query in `path` or in `query`, not in both')
    // As undici itself would write it, so that what is verified is what is sent.
    const search = query === undefined ? '' : stringify(query as NodeJS.Dict<string>)
    const path = search === '' ? rest.path : `${rest.path}?${search}`
    const origin = new URL(rest.origin ?? UNKNOWN_ORIGIN)
    const request = { origin, method: rest.method, target: path }
    const fetchStamp: FetchStamp = (link, signal) =>
      collect(dispatch, { ...rest, method: 'GET', path: link.pathname + link.search, body: null }, signal)
    return dispatch({ ...rest, path }, new VerifyingHandler(request, options, fetchStamp, handler))
  }
}

class VerifyingHandler implements Dispatcher.DispatchHandler {
  readonly #request: { readonly origin: URL; readonly method: string; readonly target: string }
  readonly #options: InterceptorOptions
  readonly #fetchStamp: FetchStamp
  readonly #handler: Dispatcher.DispatchHandler
  readonly #maxBytes: number
  readonly #held = new HeldController((reason) => this.#cancel.abort(reason))
  readonly #cancel = new AbortController()
  #head: Head | null = null
  #chunks: Buffer[] = []
  #length = 0

  constructor(
    request: { origin: URL; method: string; target: string },
    options: InterceptorOptions,
    fetchStamp: FetchStamp,
    handler: Dispatcher.DispatchHandler,
  ) {
    this.#request = request
    this.#options = options
    this.#fetchStamp = fetchStamp
    this.#handler = handler
    this.#maxBytes = options.maxBytes ?? DEFAULT_MAX_BYTES
  }

  onRequestStart(controller: Dispatcher.DispatchController, context: unknown): void {
    this.#head = null
    this.#chunks = []
    this.#length = 0
    this.#held.attach(controller)
    this.#handler.onRequestStart?.(this.#held, context)
  }

  onRequestUpgrade(_controller: unknown, _status: number, _headers: unknown, socket: Duplex): void {
    socket.destroy()
    this.#handler.onResponseError?.(
      this.#held,
      new SignetError('STAMP_MISSING', 'the answer was an upgrade, which carries no stamp'),
    )
  }

  onResponseStart(
    controller: Dispatcher.DispatchController,
    status: number,
    headers: IncomingHttpHeaders,
    message?: string,
  ): void {
    if (status < 200) return
    this.#head = { status, headers, message }
    if (this.#request.method !== 'HEAD' && Number(headers['content-length'] ?? 0) > this.#maxBytes)
      controller.abort(tooLarge(this.#maxBytes))
  }

  onResponseData(controller: Dispatcher.DispatchController, chunk: Buffer): void {
    this.#length += chunk.length
    if (this.#length > this.#maxBytes) {
      this.#chunks = []
      controller.abort(tooLarge(this.#maxBytes))
    } else this.#chunks.push(Buffer.from(chunk))
  }

  onResponseEnd(controller: Dispatcher.DispatchController, trailers: IncomingHttpHeaders): void {
    this.#held.detach(controller)
    void this.#release(trailers)
  }

  onResponseError(_controller: Dispatcher.DispatchController, error: Error): void {
    this.#chunks = []
    this.#handler.onResponseError?.(this.#held, error)
  }

  onBodySent(chunk: Buffer): void {
    this.#handler.onBodySent?.(chunk)
  }

  onRequestSent(): void {
    this.#handler.onRequestSent?.()
  }

  async #release(trailers: IncomingHttpHeaders): Promise<void> {
    try {
      const head = this.#head
      if (head === null) throw new SignetError('STAMP_MISSING', 'there was no answer')
      const { encoding, content } = await this.#verified(head, trailers)
      this.#cancel.signal.throwIfAborted()
      const headers = { ...head.headers }
      if (encoding !== undefined) {
        // It is decoded: what was verified is what is handed on.
        delete headers['content-encoding']
        delete headers['content-length']
        this.#held.hide(['content-encoding', 'content-length'])
      }
      this.#handler.onResponseStart?.(this.#held, head.status, headers, head.message)
      if (content.length > 0) this.#handler.onResponseData?.(this.#held, content)
      this.#handler.onResponseEnd?.(this.#held, trailers)
    } catch (error) {
      this.#handler.onResponseError?.(this.#held, error as Error)
    }
  }

  async #verified({ status, headers }: Head, trailers: IncomingHttpHeaders) {
    const encoding = valueOf(headers, 'content-encoding')
    const content = await decodeContent(Buffer.concat(this.#chunks), encoding, this.#maxBytes)
    this.#chunks = []
    const answer = {
      ...this.#request,
      status,
      content,
      header: (name: string) => valueOf(headers, name),
      stampTrailer: valueOf(trailers, 'compliance-stamp'),
    }
    const timeout = AbortSignal.timeout(this.#options.timeoutMs ?? DEFAULT_TIMEOUT_MS)
    const signal = AbortSignal.any([timeout, this.#cancel.signal])
    const verified = await verifyAnswer(answer, this.#options, this.#fetchStamp, signal)
    const { method, target } = this.#request
    this.#options.onVerified?.(verified, { method, target })
    return { encoding, content }
  }
}

function valueOf(headers: IncomingHttpHeaders, name: string): string | undefined {
  const value = headers[name]
  return Array.isArray(value) ? value.join(', ') : value
}

/** Gets a stamp by the same connections; an answer that is longer than a stamp is cut off. */
function collect(
  dispatch: Dispatch,
  opts: Dispatcher.DispatchOptions,
  signal: AbortSignal,
): Promise<{ status: number; content: Uint8Array }> {
  return new Promise((resolve, reject) => {
    const chunks: Buffer[] = []
    let length = 0
    let status = 0
    dispatch(withoutBodyHeaders(opts), {
      onRequestStart(controller) {
        if (signal.aborted) return controller.abort(signal.reason as Error)
        signal.addEventListener('abort', () => controller.abort(signal.reason as Error), { once: true })
      },
      onResponseStart(_controller, code) {
        status = code
      },
      onResponseData(controller, chunk) {
        length += chunk.length
        if (length > MAX_STAMP_BYTES) controller.abort(tooLarge(MAX_STAMP_BYTES))
        else chunks.push(Buffer.from(chunk))
      },
      onResponseEnd: () => resolve({ status, content: Buffer.concat(chunks) }),
      onResponseError: (_controller, error) => reject(error),
    })
  })
}

/** Of the headers of the request only its credentials are good for its stamp. */
function withoutBodyHeaders(opts: Dispatcher.DispatchOptions): Dispatcher.DispatchOptions {
  const authorization = authorizationOf(opts.headers)
  return { ...opts, headers: authorization === undefined ? {} : { authorization } }
}

function authorizationOf(headers: Dispatcher.DispatchOptions['headers']): string | undefined {
  if (headers === null || headers === undefined) return undefined
  const found = fieldsOf(headers).find(([name]) => name.toLowerCase() === 'authorization')?.[1]
  return typeof found === 'string' ? found : undefined
}

/** undici takes names and values in turn, an iterable of pairs, or an object. */
function fieldsOf(headers: NonNullable<Dispatcher.DispatchOptions['headers']>): [string, unknown][] {
  if (!(Symbol.iterator in headers)) return Object.entries(headers)
  const entries = [...(headers as Iterable<string | [string, unknown]>)]
  return entries.flatMap((entry, at): [string, unknown][] => {
    if (typeof entry !== 'string') return [entry]
    return at % 2 === 0 ? [[entry, entries[at + 1]]] : []
  })
}
