import { setTimeout as sleep } from 'node:timers/promises'
import { Counter, Gauge } from 'prom-client'
import { SignetError } from '#core/error/signet-error.ts'
import type { Logger } from '#runtime/telemetry/log.ts'
import type { MetricsRegistry } from '#runtime/telemetry/metrics.ts'
import { VerificationPasses, type PassDeps, type Step } from './pass.ts'

const BUSY_MS = 15_000
const RESTS_MS = 1_000
const AFTER_FAILURE_MS = 5_000
/** At most this long a pause after one batch, however slow it was. */
const MAX_PAUSE_MS = 60_000
const FAULTS = ['edit', 'delete', 'insert', 'reorder', 'truncate', 'wrong-key', 'fork', 'rollback'] as const

export type Verifying = { stop(): Promise<void> }

/** @see docs/reference/metrics.md */
export function createVerifierMetrics(registry: MetricsRegistry) {
  const failures = new Counter({
    name: 'signet_ledger_verification_failures',
    help: 'Faults that the background verifier found, by fault, once a pass.',
    labelNames: ['fault'] as const,
    registers: [registry],
  })
  for (const fault of FAULTS) failures.inc({ fault }, 0)
  return {
    failures,
    links: new Counter({
      name: 'signet_ledger_verified_links',
      help: 'Links that the background verifier of this process found sound.',
      registers: [registry],
    }),
    treeSize: new Gauge({
      name: 'signet_ledger_verified_tree_size',
      help: 'Leaves of the tree that the background verifier of this process last found sound.',
      registers: [registry],
    }),
    archiveSize: new Gauge({
      name: 'signet_ledger_verified_archive_size',
      help: 'Leaves of the last archived checkpoint that the background verifier of this process found in the tree; what comes after is not yet proven.',
      registers: [registry],
    }),
    passEnded: new Gauge({
      name: 'signet_ledger_verification_pass_timestamp_seconds',
      help: 'When the background verifier of this process last came to the end of a pass over everything.',
      registers: [registry],
    }),
    errors: new Counter({
      name: 'signet_ledger_verification_errors',
      help: 'Times that the background verifier could not go on, by code.',
      labelNames: ['code'] as const,
      registers: [registry],
    }),
  }
}

export type VerifyingDeps = Omit<PassDeps, 'pause'> & {
  readonly log: Logger
  readonly registry: MetricsRegistry
  /** Share of the time that it may take, in percent, from 1 to 100. */
  readonly sharePercent: number
}

/** Verifies for as long as the process lives, in the time that others leave. */
export function keepVerifying(deps: VerifyingDeps): Verifying {
  const { log, registry, sharePercent, clock, ...passDeps } = deps
  const metrics = createVerifierMetrics(registry)
  const stopped = new AbortController()
  const pauseFor = (ms: number): Promise<unknown> =>
    sleep(ms, undefined, { signal: stopped.signal }).catch(() => undefined)
  const passes = new VerificationPasses({
    ...passDeps,
    clock,
    pause: async (busyMs) => {
      await pauseFor(Math.min(MAX_PAUSE_MS, busyMs * (100 / sharePercent - 1)))
      stopped.signal.throwIfAborted()
    },
  })

  function reportArchive({ archive, fault }: Extract<Step, { outcome: 'tree' }>): void {
    if (archive === null) return
    if ('error' in archive) {
      metrics.errors.inc({ code: archive.error.code })
      log.warn({ error: archive.error }, 'external checkpoints not read: that the wall was not set back is not shown')
    } else if (archive.newest === 0) {
      log.warn('external checkpoints not read: the archive has none that a key of this ledger signed')
    } else if (fault === null) metrics.archiveSize.set(archive.newest)
  }

  function report(step: Step): number {
    if (step.outcome === 'busy' || step.outcome === 'rests') return step.outcome === 'busy' ? BUSY_MS : RESTS_MS
    if (step.outcome === 'chain') metrics.links.inc(step.links)
    if (step.outcome === 'tree') {
      metrics.passEnded.set(clock().getTime() / 1_000)
      if (step.fault === null) metrics.treeSize.set(step.size)
      reportArchive(step)
    }
    if (step.fault !== null) {
      const { fault, seq, leaf, detail } = step.fault
      metrics.failures.inc({ fault })
      const place = step.outcome === 'chain' ? { tenant: step.tenant, seq } : { leaf }
      log.fatal({ fault, ...place, detail }, 'the audit wall was tampered with: see docs/runbooks/ledger-tampered.md')
    }
    return 0
  }

  async function run(): Promise<void> {
    while (!stopped.signal.aborted) {
      let pauseMs = 0
      try {
        pauseMs = report(await passes.step(stopped.signal))
      } catch (error) {
        if (stopped.signal.aborted) break
        metrics.errors.inc({ code: error instanceof SignetError ? error.code : 'INTERNAL' })
        log.warn({ error }, 'the background verifier has to wait')
        pauseMs = AFTER_FAILURE_MS
      }
      if (pauseMs > 0) await pauseFor(pauseMs)
    }
    await passes.release().catch(() => undefined)
  }

  const running = run()
  return {
    async stop() {
      stopped.abort()
      await running
    },
  }
}
