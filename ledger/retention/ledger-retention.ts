import { parsePublishedPolicies } from '#core/retention/published.ts'
import { createPool, type Pool } from '#runtime/postgres/transaction.ts'
import { followFile } from '#runtime/process/followed-file.ts'
import type { Logger } from '#runtime/telemetry/log.ts'
import type { MetricsRegistry } from '#runtime/telemetry/metrics.ts'
import { SignetError } from '#core/error/signet-error.ts'
import type { LedgerConfig } from '../config.ts'
import type { LedgerKeys } from '../keys.ts'
import type { Sequencer } from '../sequencer.ts'
import { createRetentionClasses, type RetentionClasses } from './classes.ts'
import { keepRetention, type RetentionDuty } from './duty.ts'
import { createRetentionMetrics } from './metrics.ts'
import { createPolicyBook, type PolicyBook } from './policies.ts'
import { createRetentionReports, type RetentionReports } from './report.ts'

/** What the rest of a ledger needs of its retention. */
export type LedgerRetention = {
  readonly book: PolicyBook
  readonly classes: RetentionClasses
  readonly reports: RetentionReports
  readonly duty: () => RetentionDuty
}

const FILE_POLL_MS = 1_000
/** A purge reads a whole month of a class. */
const LONG_STATEMENT_MS = 60 * 60_000

export type RetentionStartDeps = {
  readonly wall: Pool
  readonly work: Pool
  readonly clock: () => Date
  readonly registry: MetricsRegistry
  readonly log: Logger
  readonly signal: AbortSignal
}

/** Builds the retention of a ledger process; `begin` sets its duty going, once there is a sequencer. */
export function startRetention(
  config: Pick<
    LedgerConfig,
    'SIGNET_LEDGER_AUDIT_DB_URL' | 'SIGNET_LEDGER_RETENTION_POLICIES' | 'SIGNET_LEDGER_PURGE_EVERY_MINUTES'
  >,
  deps: RetentionStartDeps,
): {
  readonly parts: LedgerRetention
  begin(deps: { keys: LedgerKeys; sequencer: Sequencer }): RetentionDuty
  close(): Promise<void>
} {
  const { work, wall, clock, registry, log, signal } = deps
  const file = config.SIGNET_LEDGER_RETENTION_POLICIES
  const metrics = createRetentionMetrics(registry)
  const book = createPolicyBook(work, { expectsPlatform: file !== undefined })
  const longWall = createPool({
    url: config.SIGNET_LEDGER_AUDIT_DB_URL,
    size: 2,
    applicationName: 'signet-ledger-retention',
    statementTimeoutMs: LONG_STATEMENT_MS,
    onIdleError: (error) => log.warn({ error }, 'a database connection broke'),
  })
  const classes = createRetentionClasses({
    wall,
    policies: () => book.all(),
    clock,
    onUncovered(wanted, error) {
      metrics.uncovered.inc()
      log.error({ error, retention_class: wanted }, 'a retention class cannot be made: its records are kept longer')
    },
  })
  let duty: RetentionDuty | null = null
  const parts: LedgerRetention = {
    book,
    classes,
    reports: createRetentionReports({ wall: longWall, clock }),
    duty() {
      if (duty === null) throw new SignetError('LEDGER_BUSY', 'the ledger is starting')
      return duty
    },
  }
  if (file !== undefined) {
    followFile({
      path: file,
      text: '',
      pollMs: FILE_POLL_MS,
      signal,
      apply(text) {
        book.setPlatform(parsePublishedPolicies(text, 'SIGNET_LEDGER_RETENTION_POLICIES'))
        log.info({ policies: book.platform?.policies.length }, 'retention policies of the platform read')
      },
      onError: (error) => log.error({ error }, 'retention policies cannot be read; the former ones stay'),
    })
  }
  return {
    parts,
    begin({ keys, sequencer }) {
      const purgeEveryMinutes = config.SIGNET_LEDGER_PURGE_EVERY_MINUTES
      duty = keepRetention({ wall: longWall, work, keys, sequencer, clock, book, metrics, log, purgeEveryMinutes })
      return duty
    },
    close: () => longWall.end(),
  }
}
