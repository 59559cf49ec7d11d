import { randomUUID } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'
import { SignetError } from '#core/error/signet-error.ts'
import { withTenant, type Pool } from '#runtime/postgres/transaction.ts'
import type { Logger } from '#runtime/telemetry/log.ts'
import type { Sequencer } from '../sequencer.ts'
import {
  claimExport,
  finishExport,
  forgetExports,
  keepExport,
  releaseExport,
  type ExportJob,
} from '../store/exports.ts'
import { findLeafIndexes } from '../store/search.ts'
import { readCheckpoint, withTree, type StoredCheckpoint } from '../store/tree.ts'
import { sha256Hex } from '#core/crypto/digest.ts'
import type { ExportMetrics } from './metrics.ts'
import { exportCompleted } from './notice.ts'
import { buildPackage, type PackageDeps } from './package.ts'
import { tellOne, type TellDeps } from './tell.ts'
import type { Timestamp } from '../timestamp/authority.ts'

export type WorkerDeps = PackageDeps & {
  readonly work: Pool
  readonly sequencer: Sequencer
  readonly log: Logger
  readonly clock: () => Date
  /** Null where no time-stamp authority is configured. */
  readonly timestamp: Timestamp | null
  /** Null where no mail server is configured. */
  readonly tell: Omit<TellDeps, 'work' | 'clock' | 'log' | 'onTold'> | null
  readonly metrics: ExportMetrics
}
export type ExportWorker = { stop(): Promise<void> }

const POLL_MS = 500
const AFTER_FAILURE_MS = 2_000
/** A process that does not say so for this long does not work on it any more. */
const CLAIM_MS = 30_000
/** Taken up so often, by processes that ended in the middle: it may be what ends them. */
const MAX_ATTEMPTS = 3
/** How long the tree may take to cover the records that were there at the request: some 500 ms. */
const TREE_PATIENCE_MS = 20_000
const TREE_POLL_MS = 100
const KEPT_MS = 7 * 24 * 60 * 60 * 1_000
const FORGET_EVERY_MS = 60 * 60 * 1_000

/** Ends the work on a job without a verdict: another process has it, its tenant's exports are frozen, or this process stops. */
class GivenUp extends Error {}

/**
 * Works on exports, one at a time in each process, for as long as it lives. A job is a row of the work database that is claimed for half a
 * minute at a time: what a process leaves behind, the next one begins again.
 */
export function keepExporting(deps: WorkerDeps): ExportWorker {
  const { work, log, clock } = deps
  const claimant = randomUUID()
  const stopped = new AbortController()
  let forgotAt = 0

  async function run(): Promise<void> {
    while (!stopped.signal.aborted) {
      let pauseMs = POLL_MS
      try {
        const at = clock()
        if (at.getTime() - forgotAt > FORGET_EVERY_MS) {
          await forgetExports(work, new Date(at.getTime() - KEPT_MS))
          forgotAt = at.getTime()
        }
        const job = await claimExport(work, claimant, at, new Date(at.getTime() + CLAIM_MS))
        if (job !== null) {
          await workOn(deps, job, claimant, stopped.signal)
          pauseMs = 0
        }
        if (await tellNext(deps)) pauseMs = 0
      } catch (error) {
        log.warn({ error }, 'exports have to wait')
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

function tellNext({ tell, work, clock, log, metrics }: WorkerDeps): Promise<boolean> {
  if (tell === null) return Promise.resolve(false)
  return tellOne({ ...tell, work, clock, log, onTold: (result) => metrics.letters.inc({ result }) })
}

async function workOn(deps: WorkerDeps, job: ExportJob, claimant: string, signal: AbortSignal): Promise<void> {
  const { work, log, clock, sequencer, metrics } = deps
  const claim = { id: job.id, claimant }
  const keep = async (records: number): Promise<void> => {
    const kept = await keepExport(work, claim, records, new Date(clock().getTime() + CLAIM_MS))
    if (!kept || signal.aborted) throw new GivenUp()
  }
  try {
    if (job.attempts > MAX_ATTEMPTS)
      throw new SignetError('EXPORT_FAILED', `the export was begun ${MAX_ATTEMPTS} times and never came to its end`)
    const checkpoint = await checkpointFor(deps, job, keep)
    const made = await buildPackage(deps, job, checkpoint, clock(), keep)
    const { manifest } = made
    const token = (await deps.timestamp?.(Buffer.from(made.package.manifest))) ?? null
    await keep(manifest.records)
    // In the chain first: a package that can be fetched is on record. A second attempt records nothing new.
    await sequencer.append(
      exportCompleted(job, {
        records: manifest.records,
        checkpoint_size: checkpoint.size,
        manifest_sha256: `sha256:${sha256Hex(made.package.manifest)}`,
        scrubbed_values: manifest.scrubbing.values,
        timestamped: token !== null,
      }),
    )
    const finished = token === null ? made.package : { ...made.package, timestamp: token.toString('base64') }
    await finishExport(work, claim, { package: finished, recordsDone: manifest.records }, clock())
    metrics.ended.inc({ state: 'done' })
    metrics.records.inc(manifest.records)
  } catch (error) {
    // Frozen, or stopping: whoever may go on begins again.
    if (error instanceof GivenUp || signal.aborted) return releaseExport(work, claim)
    const known = error instanceof SignetError ? error : null
    // What will pass is not the job's fault: it is tried again, now or when the claim runs out.
    if (known?.code === 'DATABASE_UNAVAILABLE' || known?.code === 'LEDGER_BUSY') {
      await releaseExport(work, claim).catch(() => undefined)
      throw error
    }
    log.error({ error, export_id: job.id }, 'an export failed')
    const verdict = {
      code: known?.code ?? 'INTERNAL',
      detail: known?.message ?? 'Something went wrong here. The log of the ledger has the reason.',
    }
    await sequencer.append(exportCompleted(job, { error: verdict.code }))
    await finishExport(work, claim, { error: verdict }, clock())
    metrics.ended.inc({ state: 'failed' })
  }
}

/** A checkpoint of a tree that all records of the job are in. */
async function checkpointFor(
  deps: WorkerDeps,
  job: ExportJob,
  keep: (records: number) => Promise<void>,
): Promise<StoredCheckpoint> {
  const { wall, clock } = deps
  const until = clock().getTime() + TREE_PATIENCE_MS
  for (;;) {
    const leaf = await withTenant(
      wall,
      job.tenant,
      async (client) => (await findLeafIndexes(client, job.tenant, [job.headSeq])).get(job.headSeq),
      { readOnly: true },
    )
    const checkpoint = await withTree(wall, (client) => readCheckpoint(client), { readOnly: true })
    if (leaf !== undefined && checkpoint !== null && checkpoint.size > leaf) return checkpoint
    if (clock().getTime() > until)
      throw new SignetError('EXPORT_FAILED', 'the tree does not grow, so that nothing could be proved; see the log')
    await keep(0)
    await sleep(TREE_POLL_MS)
  }
}
