import type { Wire, WireAnswer } from './wire.ts'

export type ApiRequestOptions = { contentType?: string; token?: string; headers?: Record<string, string> }

/** Calls to the API server as its administrator, or as the bearer of another token. */
export type ApiClient = {
  readonly request: (method: string, path: string, body?: unknown, options?: ApiRequestOptions) => Promise<WireAnswer>
  readonly close: () => void
}

export function createApiClient(url: string, token: string, wire: Wire): ApiClient {
  return {
    request(method, path, body, options = {}) {
      const content = body === undefined || typeof body === 'string' ? body : JSON.stringify(body)
      return wire.send(new URL(path, url).href, {
        method,
        body: content,
        headers: {
          accept: 'application/json',
          authorization: `Bearer ${options.token ?? token}`,
          ...(content === undefined ? {} : { 'content-type': options.contentType ?? 'application/json' }),
          ...options.headers,
        },
      })
    },
    close: () => wire.close(),
  }
}
