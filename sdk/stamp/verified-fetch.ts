import { MAX_STAMP_BYTES } from '#core/stamp/verify.ts'
import { DEFAULT_MAX_BYTES, DEFAULT_TIMEOUT_MS, verifyAnswer, type FetchStamp, type VerifyOptions } from './answer.ts'
import { readBounded } from './bounded.ts'
import type { VerifiedContent } from './verify-stamp.ts'

export type VerifiedFetchOptions = VerifyOptions & { readonly fetch?: typeof globalThis.fetch }

const NO_CONTENT = new Set([204, 205, 304])
const verifiedOf = new WeakMap<Response, VerifiedContent>()

/** The stamp of an answer of `verifiedFetch`; undefined for any other. */
export function stampOf(response: Response): VerifiedContent | undefined {
  return verifiedOf.get(response)
}

/**
 * A `fetch` that gives answers only after their stamps were verified, whole: what it cannot verify it rejects, with a SignetError whose
 * `code` says what is wrong, and the application sees nothing of it. Redirects are not followed: each is an answer with a stamp of its own.
 * Rejects as `verifyStamp`, with STAMP_CONTENT_TOO_LARGE past `maxBytes`, and as `fetch` does.
 */
export function verifiedFetch(options: VerifiedFetchOptions): typeof globalThis.fetch {
  const call = options.fetch ?? globalThis.fetch
  const maxBytes = options.maxBytes ?? DEFAULT_MAX_BYTES
  return async (input, init) => {
    const request = new Request(input, { ...init, redirect: 'manual' })
    const url = new URL(request.url)
    const response = await call(request)
    const content = await readBounded(response, maxBytes)
    const limits = [AbortSignal.timeout(options.timeoutMs ?? DEFAULT_TIMEOUT_MS), request.signal]
    const authorization = request.headers.get('authorization')
    const fetchStamp: FetchStamp = async (link, signal) => {
      const headers: Record<string, string> = authorization === null ? {} : { authorization }
      const answer = await call(link, { headers, redirect: 'error', signal })
      return { status: answer.status, content: await readBounded(answer, MAX_STAMP_BYTES) }
    }
    const held = {
      origin: new URL(url.origin),
      method: request.method,
      target: url.pathname + url.search,
      status: response.status,
      header: (name: string) => response.headers.get(name) ?? undefined,
      content,
    }
    const verified = await verifyAnswer(held, options, fetchStamp, AbortSignal.any(limits))
    return handOn(response, content, verified)
  }
}

function handOn(response: Response, content: Buffer, verified: VerifiedContent): Response {
  const headers = new Headers(response.headers)
  // It is decoded: what was verified is what is handed on.
  headers.delete('content-encoding')
  headers.delete('content-length')
  const { status, statusText, url } = response
  const handed = new Response(NO_CONTENT.has(status) ? null : new Uint8Array(content), { status, statusText, headers })
  Object.defineProperty(handed, 'url', { value: url })
  verifiedOf.set(handed, verified)
  return handed
}
