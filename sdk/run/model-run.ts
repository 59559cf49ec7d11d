import { randomUUID } from 'node:crypto'
import { STAGES, type AuditEvent } from '#core/audit/event.ts'
import { SignetError } from '#core/error/signet-error.ts'
import type { Recorder } from '../audit/ledger-recorder.ts'
import { childOf, newTrace, type TraceContext } from '../trace/trace-context.ts'

export type Stage = (typeof STAGES)[number]

/** Counts and sums by which a step can be reconciled with the one before: `{ rows: 1200, amount: 99.5 }`. Finite numbers, 64 at most. */
export type ControlTotals = Readonly<Record<string, number>>

export type RunAbout = {
  /** What the ledger records as actor: a service or a person. */
  readonly actor: string
  readonly tenant: string
  /** What the run makes: `reports/credit-risk`. */
  readonly resource: string
  readonly modelVersion: string
  /** Immutable ids of what it reads. */
  readonly datasetIds: readonly string[]
  /** Continues a trace (`traceOf`, `traceOfJob`); default: a new one. */
  readonly trace?: TraceContext
  readonly region?: string
  readonly dataDomain?: string
}

/** What a step gives: a result, what it can be reconciled by, and the stamp of what it published. */
export type StepResult<T> = { readonly result: T; readonly controlTotals?: ControlTotals; readonly stampHash?: string }
export type Step = <T>(work: (trace: TraceContext) => StepResult<T> | Promise<StepResult<T>>) => Promise<T>

export type ModelRun = { readonly runId: string; readonly trace: TraceContext } & { readonly [Name in Stage]: Step }

export type RunDeps = { readonly record: Recorder; readonly now?: () => number }

const MAX_TOTALS = 64

/**
 * Runs a model with a trail: each step is an audit event of its stage, with `model_version`, `dataset_ids` and `control_totals`, all of
 * one trace. A step is recorded when it is done, and the next begins when that is on disk; one that fails is recorded as `failure` and
 * fails the run.
 * Rejects with what a step or `body` throws; with a SignetError: CONFLICT for steps that are not all of ingest, transform, validate,
 * approve, publish, once and in this order (`body` may end early); CONFIG_INVALID for totals that are none; as `record` does
 */
export async function withModelRun<T>(deps: RunDeps, about: RunAbout, body: (run: ModelRun) => Promise<T>): Promise<T> {
  const { record, now = Date.now } = deps
  const runId = randomUUID()
  const trace = about.trace === undefined ? newTrace() : childOf(about.trace)
  let next = 0
  let underWay = false

  const begin = (stage: Stage): void => {
    const wanted = STAGES[next]
    if (underWay)
      throw new SignetError('CONFLICT', `${stage} cannot begin while another step is under way or has failed`)
    if (stage !== wanted)
      throw new SignetError(
        'CONFLICT',
        `${stage} is not next: ${wanted === undefined ? 'the run is over' : `${wanted} is`}`,
      )
    underWay = true
  }
  const step =
    (stage: Stage): Step =>
    async (work) => {
      begin(stage)
      const startedMs = now()
      const write = (end: Pick<AuditEvent, 'outcome' | 'stamp_hash'> & { totals?: ControlTotals; error?: string }) =>
        record(eventOf(stage, end, { about, runId, trace, atMs: now(), latencyMs: Math.max(0, now() - startedMs) }))
      let done: Awaited<ReturnType<typeof work>>
      try {
        done = await work(childOf(trace))
        checkTotals(stage, done.controlTotals)
      } catch (error) {
        await recordFailure(error, () => write({ outcome: 'failure', stamp_hash: null, error: nameOf(error) }))
        throw error
      }
      const { controlTotals, stampHash, result } = done
      await write({
        outcome: 'success',
        stamp_hash: stampHash ?? null,
        ...(controlTotals === undefined ? {} : { totals: controlTotals }),
      })
      next += 1
      underWay = false
      return result
    }
  const steps = Object.fromEntries(STAGES.map((stage) => [stage, step(stage)])) as { readonly [Name in Stage]: Step }
  return body({ runId, trace, ...steps })
}

type Around = { about: RunAbout; runId: string; trace: TraceContext; atMs: number; latencyMs: number }

function eventOf(
  stage: Stage,
  end: Pick<AuditEvent, 'outcome' | 'stamp_hash'> & { totals?: ControlTotals; error?: string },
  { about, runId, trace, atMs, latencyMs }: Around,
): AuditEvent {
  const { region, dataDomain } = about
  return {
    event_id: randomUUID(),
    event_type: `model_run.${stage}`,
    timestamp_utc: new Date(atMs).toISOString(),
    trace_id: trace.traceId,
    request_id: trace.requestId,
    actor: about.actor,
    tenant: about.tenant,
    stage,
    action: stage,
    resource: about.resource,
    resource_type: 'model_run',
    resource_id: runId,
    before: null,
    after: null,
    outcome: end.outcome,
    latency_ms: latencyMs,
    stamp_hash: end.stamp_hash,
    context: {
      model_version: about.modelVersion,
      dataset_ids: [...about.datasetIds],
      control_totals: end.totals ?? {},
      ...(end.error === undefined ? {} : { error: end.error }),
    },
    ...(region === undefined ? {} : { region }),
    ...(dataDomain === undefined ? {} : { data_domain: dataDomain }),
  }
}

/** A failure that cannot be recorded either shows both. */
async function recordFailure(error: unknown, write: () => Promise<void>): Promise<void> {
  try {
    await write()
  } catch (unrecorded) {
    throw new AggregateError([error, unrecorded], 'a step of the run failed, and so did its record', {
      cause: unrecorded,
    })
  }
}

function checkTotals(stage: Stage, totals: ControlTotals = {}): void {
  const entries = Object.entries(totals)
  if (entries.length <= MAX_TOTALS && entries.every(([, value]) => Number.isFinite(value))) return
  throw new SignetError('CONFIG_INVALID', `the control totals of ${stage} must be ${MAX_TOTALS} finite numbers at most`)
}

/** A message may hold data of people; a name does not. */
function nameOf(error: unknown): string {
  return error instanceof SignetError ? error.code : error instanceof Error ? error.name.slice(0, 100) : typeof error
}
