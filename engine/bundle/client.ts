import { readFile } from 'node:fs/promises'
import { Agent, request } from 'undici'
import { SignetError } from '#core/error/signet-error.ts'

export interface BundleClientOptions {
  /** PEM of the only authority that servers are believed by; the system's where unset. */
  ca?: string
  /** File with the bearer token, read anew for each call since the platform renews it. It is sent over https only, or to this machine. */
  tokenFile?: string
}

export interface BundleCall {
  url: string
  method?: 'GET' | 'POST'
  headers?: Record<string, string>
  body?: string
  /** From now to the end of the answer. */
  timeoutMs: number
  maxBytes: number
  signal: AbortSignal
  /** Without it no token is sent. */
  authorised?: boolean
}

export interface BundleAnswer {
  status: number
  headers: Record<string, string | string[] | undefined>
  body: Buffer
}

/** HTTP to the bundle server: pinned TLS, no redirects, bounded in time and size. */
export interface BundleClient {
  /** Rejects with BUNDLE_UNAVAILABLE (no answer), BUNDLE_INVALID (too large), whatever the status. */
  call(call: BundleCall): Promise<BundleAnswer>
  close(): Promise<void>
}

export function createBundleClient(options: BundleClientOptions = {}): BundleClient {
  const { ca, tokenFile } = options
  const agent = new Agent({
    connections: 4,
    pipelining: 1,
    keepAliveTimeout: 60_000,
    connect: { timeout: 10_000, keepAlive: true, keepAliveInitialDelay: 15_000, ...(ca === undefined ? {} : { ca }) },
  })
  return {
    async call({ url, method = 'GET', headers = {}, body, timeoutMs, maxBytes, signal, authorised }) {
      const timeout = AbortSignal.timeout(timeoutMs)
      try {
        const token = authorised === true && tokenFile !== undefined ? await readToken(url, tokenFile) : null
        const response = await request(url, {
          method,
          dispatcher: agent,
          headers: { ...headers, ...(token === null ? {} : { authorization: `Bearer ${token}` }) },
          body: body ?? null,
          signal: AbortSignal.any([signal, timeout]),
          headersTimeout: timeoutMs,
          bodyTimeout: timeoutMs,
        })
        const chunks: Buffer[] = []
        let length = 0
        for await (const chunk of response.body as AsyncIterable<Buffer>) {
          length += chunk.length
          // Leaving the loop ends the download.
          if (length > maxBytes) throw new SignetError('BUNDLE_INVALID', `The answer is larger than ${maxBytes} bytes`)
          chunks.push(chunk)
        }
        return { status: response.statusCode, headers: response.headers, body: Buffer.concat(chunks) }
      } catch (error) {
        if (error instanceof SignetError) throw error
        const why = timeout.aborted ? `no answer within ${timeoutMs} ms` : reasonOf(error)
        throw new SignetError('BUNDLE_UNAVAILABLE', `${withoutCredentials(url)} cannot be reached: ${why}`, {
          cause: error,
        })
      }
    },
    close: () => agent.destroy(),
  }
}

async function readToken(url: string, file: string): Promise<string> {
  const { protocol, hostname } = new URL(url)
  const isLocal = /^(localhost|127(\.\d+){3}|\[::1\])$/.test(hostname)
  if (protocol !== 'https:' && !isLocal) {
    throw new SignetError('BUNDLE_UNAVAILABLE', `A token is not sent to ${withoutCredentials(url)}: it is not https`)
  }
  try {
    return (await readFile(file, 'utf8')).trim()
  } catch (cause) {
    throw new SignetError('BUNDLE_UNAVAILABLE', `The token file ${file} cannot be read`, { cause })
  }
}

function reasonOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error)
  const { code } = error as { code?: unknown }
  return typeof code === 'string' && !error.message.includes(code) ? `${error.message} (${code})` : error.message
}

export function withoutCredentials(source: string): string {
  if (!URL.canParse(source)) return source
  const url = new URL(source)
  url.username = ''
  url.password = ''
  url.search = ''
  return url.href
}
