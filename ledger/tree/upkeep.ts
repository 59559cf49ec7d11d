import { setTimeout as sleep } from 'node:timers/promises'
import { Counter, Gauge } from 'prom-client'
import { SignetError } from '#core/error/signet-error.ts'
import type { Logger } from '#runtime/telemetry/log.ts'
import type { MetricsRegistry } from '#runtime/telemetry/metrics.ts'
import type { Integrator } from './integrator.ts'

/** The tail that no checkpoint covers is at most this old, plus one round. */
const EVERY_MS = 500
const AFTER_FAILURE_MS = 2_000

export type TreeUpkeep = { stop(): Promise<void> }

/** @see docs/reference/metrics.md */
export function createTreeMetrics(registry: MetricsRegistry) {
  return {
    size: new Gauge({
      name: 'signet_ledger_tree_size',
      help: 'Leaves of the signed tree, as this process knows it.',
      registers: [registry],
    }),
    failures: new Counter({
      name: 'signet_ledger_tree_failures',
      help: 'Rounds of integration that failed, by code.',
      labelNames: ['code'] as const,
      registers: [registry],
    }),
  }
}

/** Integrates for as long as the process lives. A failure is logged, counted, and tried again: appending goes on without the tree. */
export function keepIntegrating(integrator: Integrator, deps: { log: Logger; registry: MetricsRegistry }): TreeUpkeep {
  const { log, registry } = deps
  const { size, failures } = createTreeMetrics(registry)
  const stopped = new AbortController()

  async function run(): Promise<void> {
    while (!stopped.signal.aborted) {
      let pauseMs = EVERY_MS
      try {
        const round = await integrator.round()
        if (round.outcome === 'grown') {
          size.set(round.size)
          if (round.more) pauseMs = 0
        }
      } catch (error) {
        const code = error instanceof SignetError ? error.code : 'INTERNAL'
        failures.inc({ code })
        const level = code === 'CHAIN_BROKEN' || code === 'INTERNAL' ? 'error' : 'warn'
        log[level]({ error }, 'the tree was not integrated')
        pauseMs = AFTER_FAILURE_MS
      }
      await sleep(pauseMs, undefined, { signal: stopped.signal }).catch(() => undefined)
    }
  }

  const running = run()
  return {
    async stop() {
      stopped.abort()
      await running
    },
  }
}
