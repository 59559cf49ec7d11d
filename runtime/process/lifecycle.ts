import { SignetError } from '#core/error/signet-error.ts'

/** What a started process hands back. `stop` drains: no new work, the rest done, everything flushed and closed. */
export type StartedProcess = {
  stop(): Promise<void>
  /** Milliseconds that `stop` may take, where the configuration says it; goes before `ProcessOptions.drainMs`. */
  readonly drainMs?: number
  /** Where failures go from now on; before, and without it, they go to standard error. */
  readonly log?: {
    info(o: object, m: string): void
    error(o: object, m: string): void
    fatal(o: object, m: string): void
  }
}

export type ProcessOptions = {
  /** Prefix of its lines: `signet-proxy`. */
  readonly name: string
  /** `signal` aborts when the process is told to stop while it still starts. */
  readonly start: (signal: AbortSignal) => Promise<StartedProcess>
  /** Milliseconds that draining may take before the process leaves all the same. Default 25,000 (Kubernetes grants 30 s). */
  readonly drainMs?: number
  /** Milliseconds within which a further signal is the same one, come another way. Default 0. */
  readonly sameSignalMs?: number
}

const DEFAULT_DRAIN_MS = 25_000
const LAST_WRITES_MS = 500
/** sysexits.h EX_CONFIG. */
const EXIT_CONFIG = 78
const SIGNAL_NUMBERS = { SIGHUP: 1, SIGINT: 2, SIGTERM: 15 } as const

/**
 * Runs a process from start to exit: the first SIGTERM, SIGINT or SIGHUP (or the loss of the parent that started it with an IPC channel)
 * drains, a second signal leaves at once, and what nobody caught is logged and ends it with 1. An error that start throws
 * is one line on standard error: exit 78 for CONFIG_INVALID, else 1.
 */
export async function runProcess(options: ProcessOptions): Promise<void> {
  const stopping = new AbortController()
  let started: StartedProcess | undefined
  let drainStarted = false
  let signalledAtMs = 0
  let lostParent = false

  /**
   * Without its parent a process may have nobody who reads its log. What is still to be written when it exits is then tried for ever
   * (sonic-boom's flushSync after EPIPE), unless a write has failed before: so it is given the time to.
   */
  const leave = (code: number): void => {
    if (lostParent) setTimeout(() => process.exit(code), LAST_WRITES_MS)
    else process.exit(code)
  }
  const fail = (message: string, error: unknown): void => {
    if (started?.log) started.log.fatal({ error }, message)
    else process.stderr.write(`${options.name}: ${message}: ${describe(error)}\n`)
    leave(1)
  }
  process.on('uncaughtException', (error) => fail('uncaught exception', error))
  process.on('unhandledRejection', (error) => fail('unhandled rejection', error))

  const drain = async (): Promise<void> => {
    if (drainStarted || started === undefined) return
    drainStarted = true
    const drainMs = started.drainMs ?? options.drainMs ?? DEFAULT_DRAIN_MS
    setTimeout(() => {
      started?.log?.error({ drain_ms: drainMs }, 'draining took too long; leaving now')
      leave(1)
    }, drainMs).unref()
    try {
      await started.stop()
    } catch (error) {
      fail('stopping failed', error)
      return
    }
    leave(0)
  }
  const onSignal = (signal: keyof typeof SIGNAL_NUMBERS): void => {
    if (stopping.signal.aborted) {
      if (performance.now() - signalledAtMs < (options.sameSignalMs ?? 0)) return
      process.exit(128 + SIGNAL_NUMBERS[signal])
    }
    signalledAtMs = performance.now()
    started?.log?.info({ signal }, 'draining')
    stopping.abort()
    void drain()
  }
  process.on('SIGTERM', onSignal)
  process.on('SIGINT', onSignal)
  // The terminal was closed.
  process.on('SIGHUP', onSignal)
  if (process.channel) {
    process.on('disconnect', () => {
      lostParent = true
      if (stopping.signal.aborted) return
      signalledAtMs = performance.now()
      stopping.abort()
      void drain()
    })
    // The channel only tells of the parent's end; it is no reason to stay.
    process.channel.unref()
  }

  try {
    started = await options.start(stopping.signal)
  } catch (error) {
    if (stopping.signal.aborted) process.exit(0)
    process.stderr.write(startFailure(options.name, error))
    process.exit(error instanceof SignetError && error.code === 'CONFIG_INVALID' ? EXIT_CONFIG : 1)
  }
  if (stopping.signal.aborted) await drain()
}

/** One line a problem for our own errors; the stack for a defect. */
function startFailure(name: string, error: unknown): string {
  if (!(error instanceof SignetError)) return `${name}: cannot start: ${describe(error)}\n`
  return error.message
    .split('\n')
    .map((line) => `${name}: cannot start: ${line}\n`)
    .join('')
}

function describe(error: unknown): string {
  if (error instanceof SignetError) return `${error.code}: ${error.message}`
  return error instanceof Error ? (error.stack ?? error.message) : String(error)
}
