import type { SignetError } from '#core/error/signet-error.ts'
import type { BundleClient } from './client.ts'

export interface StatusReporterOptions {
  url: string
  client: BundleClient
  /** The bundle's name in the report: its scope. */
  name: string
  /** Who reports; for people, since the server goes by the token. */
  labels: Record<string, string>
  /** Between two reports at most; default 25 s. */
  heartbeatMs?: number
  /** Between two reports at least; default 500 ms. */
  minIntervalMs?: number
  now?: () => Date
  random?: () => number
  /** A report was not taken; it is made again later. */
  onFailure?: (error: unknown) => void
}

/**
 * Tells the bundle server what is in force, in the shape of OPA's status API: after each change, and as a heartbeat. It runs beside
 * everything else: no call here waits, only the latest state is sent, and one request is under way at most.
 */
export interface StatusReporter {
  activated(revision: string): void
  /** The server was asked and had nothing new. */
  contacted(): void
  /** The latest bundle is not in force, or cannot be had. */
  failed(error: SignetError): void
  stop(): void
}

const TIMEOUT_MS = 10_000
const FIRST_RETRY_MS = 1_000

export function createStatusReporter(options: StatusReporterOptions): StatusReporter {
  const { url, client, name, labels, heartbeatMs = 25_000, minIntervalMs = 500 } = options
  const now = options.now ?? (() => new Date())
  const random = options.random ?? Math.random
  const stopping = new AbortController()
  const bundle: Record<string, unknown> = { name, type: 'snapshot' }
  let news = false
  let sending = false
  let failures = 0
  let timer: NodeJS.Timeout | undefined

  const schedule = (ms: number): void => {
    clearTimeout(timer)
    if (!stopping.signal.aborted) timer = setTimeout(() => void send(), ms).unref()
  }

  async function send(): Promise<void> {
    sending = true
    news = false
    try {
      const answer = await client.call({
        url,
        method: 'POST',
        headers: { 'content-type': 'application/json', accept: 'application/json' },
        body: JSON.stringify({ labels, bundles: { [name]: bundle } }),
        timeoutMs: TIMEOUT_MS,
        maxBytes: 64 << 10,
        signal: stopping.signal,
        authorised: true,
      })
      if (answer.status >= 300) throw new Error(`the server of status reports answered ${answer.status}`)
      failures = 0
    } catch (error) {
      failures += 1
      if (!stopping.signal.aborted) options.onFailure?.(error)
    } finally {
      sending = false
    }
    const retryMs = Math.min(heartbeatMs, FIRST_RETRY_MS * 2 ** Math.min(failures - 1, 10))
    if (failures > 0) schedule(retryMs * (0.5 + random() / 2))
    else schedule(news ? minIntervalMs : heartbeatMs * (0.8 + random() * 0.2))
  }

  const changed = (): void => {
    news = true
    // While failing the backoff decides; what it sends then is the latest.
    if (!sending && failures === 0) schedule(minIntervalMs * random())
  }
  const healed = (): boolean => {
    if (bundle['code'] === undefined) return false
    delete bundle['code']
    delete bundle['message']
    return true
  }

  return {
    activated(revision) {
      const at = now().toISOString()
      healed()
      Object.assign(bundle, {
        active_revision: revision,
        last_successful_activation: at,
        last_successful_download: at,
        last_successful_request: at,
        last_request: at,
      })
      changed()
    },
    contacted() {
      const at = now().toISOString()
      Object.assign(bundle, { last_successful_request: at, last_request: at })
      if (healed()) changed()
    },
    failed(error) {
      const isNew = bundle['code'] !== error.code || bundle['message'] !== error.message
      Object.assign(bundle, {
        last_request: now().toISOString(),
        code: error.code,
        message: error.message.slice(0, 1_000),
      })
      if (isNew) changed()
    },
    stop() {
      stopping.abort()
      clearTimeout(timer)
    },
  }
}
