import { DEFAULT_BACKOFF, isTransient, waitOf, type Backoff } from './backoff.ts'
import { MAX_CLIENT_BATCH_BYTES, MAX_CLIENT_BATCH_EVENTS, type ClientEvent } from './client-event.ts'

export type ClientEventDraft = {
  /** Without `client.`. */
  readonly type: string
  readonly action: string
  readonly resource: string
  /** Default `success`. */
  readonly outcome?: ClientEvent['outcome']
  /** Default 0. */
  readonly latencyMs?: number
  /** Ids of what it belongs to (`TraceContext`); default: new ones. */
  readonly trace?: { readonly traceId: string; readonly requestId: string }
  readonly context?: Readonly<Record<string, unknown>>
}

/** What of a page is used, where there is one: `globalThis` in a browser. */
export type Page = {
  readonly addEventListener: (name: string, listener: () => void) => void
  readonly removeEventListener: (name: string, listener: () => void) => void
  readonly document?: Pick<Page, 'addEventListener' | 'removeEventListener'> & { readonly visibilityState: string }
  readonly navigator?: { readonly sendBeacon?: (url: string, body: Blob) => boolean }
}

export type DropReason = 'full' | 'too_large' | 'refused'

export type ClientLoggerOptions = {
  /** The application's collector (`auditCollector`). */
  readonly url: string
  /** Asked before each request; a beacon has none but the cookies of the origin. */
  readonly headers?: () => Record<string, string>
  /** Events that wait at most. Default 1,000. */
  readonly capacity?: number
  /** How long events gather before they are sent, milliseconds. Default 1,000. */
  readonly gatherMs?: number
  /** Of each request, milliseconds. Default 10,000. */
  readonly timeoutMs?: number
  readonly backoff?: Backoff
  /** Told of each event that is lost. */
  readonly onDropped?: (reason: DropReason, count: number) => void
  readonly fetch?: typeof globalThis.fetch
  /** Null: none. */
  readonly page?: Page | null
}

type Entry = { readonly id: string; readonly json: string; readonly bytes: number }

const DEFAULT_CAPACITY = 1_000
const BEFORE = '{"events":['
const AFTER = ']}'

/**
 * Sends audit events of a client, in Node or a browser, in the background: never throws at who logs, never holds more than `capacity`
 * events. Failed requests are repeated with full jitter. When the page is hidden, all that waits goes as beacons. Events may arrive twice;
 * they have ids.
 */
export class ClientAuditLogger {
  readonly #options: ClientLoggerOptions
  readonly #page: Page | null
  #waiting: Entry[] = []
  #timer: ReturnType<typeof setTimeout> | null = null
  #sending = false
  #attempt = 0
  #closed = false
  #dropped = 0
  /** Told whenever something has left. */
  readonly #watchers = new Set<() => void>()

  constructor(options: ClientLoggerOptions) {
    this.#options = options
    this.#page = options.page === undefined ? ownPage() : options.page
    this.#page?.addEventListener('pagehide', this.#onHide)
    this.#page?.document?.addEventListener('visibilitychange', this.#onVisibility)
  }

  /** Events that have not left yet. */
  get waiting(): number {
    return this.#waiting.length
  }

  /** Events that are lost: the buffer was full, they were too large, or refused. */
  get dropped(): number {
    return this.#dropped
  }

  /** False where the event was not taken; who can wait, waits for `room()` first. */
  log(draft: ClientEventDraft): boolean {
    const entry = entryOf(draft)
    if (entry === null) return this.#drop('too_large', 1)
    if (this.#closed || this.#waiting.length >= this.#capacity) return this.#drop('full', 1)
    this.#waiting.push(entry)
    this.#schedule(this.#options.gatherMs ?? 1_000)
    return true
  }

  /** Resolves when another event would be taken. */
  room(): Promise<void> {
    return this.#until(() => this.#closed || this.#waiting.length < this.#capacity)
  }

  /** Sends what waits, now; false where some of it is still here after `timeoutMs`. Before a process ends. */
  async flush(timeoutMs = 10_000): Promise<boolean> {
    this.#attempt = 0
    if (!this.#sending) this.#schedule(0, true)
    const given = new AbortController()
    const timer = setTimeout(() => given.abort(), timeoutMs)
    await this.#until(() => given.signal.aborted || this.#closed || this.#waiting.length === 0, given.signal)
    clearTimeout(timer)
    return this.#waiting.length === 0
  }

  /** Takes no more events, and sends none. */
  close(): void {
    this.#closed = true
    if (this.#timer !== null) clearTimeout(this.#timer)
    this.#page?.removeEventListener('pagehide', this.#onHide)
    this.#page?.document?.removeEventListener('visibilitychange', this.#onVisibility)
    this.#tell()
  }

  get #capacity(): number {
    return this.#options.capacity ?? DEFAULT_CAPACITY
  }

  #schedule(ms: number, sooner = false): void {
    if (this.#closed || this.#sending || (this.#timer !== null && !sooner)) return
    if (this.#timer !== null) clearTimeout(this.#timer)
    this.#timer = setTimeout(() => {
      this.#timer = null
      void this.#send()
    }, ms)
    // A process may end all the same: `flush` is for that.
    const timer: unknown = this.#timer
    if (typeof timer === 'object' && timer !== null && 'unref' in timer) (timer as { unref: () => void }).unref()
  }

  async #send(): Promise<void> {
    const batch = batchOf(this.#waiting)
    if (batch.length === 0 || this.#sending) return
    this.#sending = true
    const status = await this.#post(bodyOf(batch))
    this.#sending = false
    // Who is not signed in now may be later.
    if (isTransient(status) || status === 401 || status === 403) {
      this.#schedule(waitOf(this.#options.backoff ?? DEFAULT_BACKOFF, this.#attempt))
      this.#attempt += 1
      return
    }
    this.#attempt = 0
    if (status !== null && status >= 300) this.#drop('refused', batch.length)
    this.#remove(batch)
    if (this.#waiting.length > 0) this.#schedule(0)
  }

  async #post(body: string): Promise<number | null> {
    const { url, headers, timeoutMs = 10_000 } = this.#options
    try {
      const response = await (this.#options.fetch ?? globalThis.fetch)(url, {
        method: 'POST',
        headers: { ...headers?.(), 'content-type': 'application/json' },
        body,
        redirect: 'error',
        signal: AbortSignal.timeout(timeoutMs),
      })
      await response.body?.cancel()
      return response.status
    } catch {
      return null
    }
  }

  readonly #onVisibility = (): void => {
    if (this.#page?.document?.visibilityState === 'hidden') this.#onHide()
  }

  /** The last moment in which a page is sure to run (Page Lifecycle). What is under way may be cut off, and goes as well. */
  readonly #onHide = (): void => {
    for (let batch = batchOf(this.#waiting); batch.length > 0; batch = batchOf(this.#waiting)) {
      const body = new Blob([bodyOf(batch)], { type: 'application/json' })
      // As a method: browsers refuse it without its navigator.
      if (this.#page?.navigator?.sendBeacon?.(this.#options.url, body) !== true) return
      this.#remove(batch)
    }
  }

  #remove(batch: readonly Entry[]): void {
    const gone = new Set(batch)
    this.#waiting = this.#waiting.filter((entry) => !gone.has(entry))
    this.#tell()
  }

  #drop(reason: DropReason, count: number): false {
    this.#dropped += count
    this.#options.onDropped?.(reason, count)
    return false
  }

  async #until(holds: () => boolean, signal?: AbortSignal): Promise<void> {
    while (!holds()) {
      await new Promise<void>((resolve) => {
        const wake = (): void => {
          this.#watchers.delete(wake)
          signal?.removeEventListener('abort', wake)
          resolve()
        }
        this.#watchers.add(wake)
        signal?.addEventListener('abort', wake)
      })
    }
  }

  #tell(): void {
    for (const watcher of this.#watchers) watcher()
  }
}

function entryOf(draft: ClientEventDraft): Entry | null {
  const id = crypto.randomUUID()
  const event: ClientEvent = {
    event_id: id,
    event_type: `client.${draft.type}`,
    timestamp_utc: new Date().toISOString(),
    trace_id: draft.trace?.traceId ?? crypto.randomUUID().replaceAll('-', ''),
    request_id: draft.trace?.requestId ?? id,
    action: draft.action,
    resource: draft.resource,
    outcome: draft.outcome ?? 'success',
    latency_ms: draft.latencyMs ?? 0,
    ...(draft.context === undefined ? {} : { context: draft.context }),
  }
  let json: string
  try {
    json = JSON.stringify(event)
  } catch {
    return null
  }
  const bytes = new TextEncoder().encode(json).byteLength + 1
  return bytes > MAX_CLIENT_BATCH_BYTES / 2 ? null : { id, json, bytes }
}

function batchOf(waiting: readonly Entry[]): readonly Entry[] {
  let bytes = BEFORE.length + AFTER.length
  const over = waiting.findIndex((entry) => (bytes += entry.bytes) > MAX_CLIENT_BATCH_BYTES)
  return waiting.slice(0, Math.min(over === -1 ? waiting.length : over, MAX_CLIENT_BATCH_EVENTS))
}

function bodyOf(batch: readonly Entry[]): string {
  return BEFORE + batch.map(({ json }) => json).join(',') + AFTER
}

/** Node has no page, though it has EventTarget, navigator and more of what browsers have. */
function ownPage(): Page | null {
  const page = globalThis as unknown as Page
  return page.document === undefined ? null : page
}
