import { setTimeout as sleep } from 'node:timers/promises'
import { REFERENCE, type Candidate } from './candidates.ts'
import { busyTimeMs, cpuTimeMs, type Cores } from './cores.ts'
import { CONNECTIONS, load, type LoadTool } from './load.ts'
import type { Size } from './payload.ts'

export type Plan = {
  readonly rounds: number
  readonly secondsEach: number
  /** Of each candidate, at the first size: until V8 has compiled what is hot. At the others a third of it. */
  readonly warmUpSeconds: number
  readonly sizes: readonly Size[]
}

/** One candidate at one size. Medians over the rounds; `ratio` is the median of the ratios within each round. */
export type Row = {
  readonly candidate: string
  readonly size: string
  readonly requestsPerSecond: number
  readonly p50Ms: number
  readonly p99Ms: number
  /** Of the measured process, all its threads, while it was under load. */
  readonly cpuMicrosPerRequest: number | null
  /** To plain @fastify/http-proxy in the same round. */
  readonly ratio: number
  /** The lowest and highest ratio of a round. */
  readonly ratioRange: readonly [number, number]
  /** Of the audit events of a round, those that the ledger had acknowledged when its load ended. */
  readonly auditedInTime: number | null
  /** Of the time of a round, what other processes took of the measured core. */
  readonly disturbed: number | null
  readonly requests: number
}

type Sample = {
  requestsPerSecond: number
  p50Ms: number
  p99Ms: number
  cpuMicros: number | null
  auditedInTime: number | null
  disturbed: number | null
  requests: number
}

const DRAIN_MS = 60_000
/** A round in which others took more of the measured core than this is run again, twice at most. */
const MAX_DISTURBED = 0.1
const ATTEMPTS = 3

/**
 * Runs all candidates in turn, again and again: what disturbs the machine disturbs all of them alike. Throws when one answer was
 * not a success, or one was not stamped that had to be.
 */
export async function measure(
  candidates: readonly Candidate[],
  plan: Plan,
  tool: LoadTool,
  cores: Cores,
  say: (line: string) => void,
): Promise<Row[]> {
  const present = candidates.filter(({ missing }) => missing === undefined)
  const samples = new Map<string, Sample[]>()
  for (const [index, candidate] of present.entries()) {
    say(`warming up ${index + 1}/${present.length}: ${candidate.name}`)
    for (const [nth, size] of plan.sizes.entries()) {
      await candidate.check(size)
      const seconds = candidate.pid === null ? 1 : Math.ceil(plan.warmUpSeconds / (nth === 0 ? 1 : 3))
      await load(tool, candidate.url, `/${size.name}/`, seconds, cores?.rest)
      await drained(candidate)
    }
  }
  const steps = plan.rounds * plan.sizes.length * present.length
  let step = 0
  for (let round = 0; round < plan.rounds; round++) {
    for (const size of plan.sizes) {
      // Another one begins each round, so that none always runs in the wake of the same one.
      for (let index = 0; index < present.length; index++) {
        const candidate = present[(index + round) % present.length] as Candidate
        step += 1
        const left = Math.round((steps - step + 1) * (plan.secondsEach + 0.3))
        say(`${step}/${steps}: ${size.label}, ${candidate.name} (about ${left} s left)`)
        const key = keyOf(candidate.name, size)
        samples.set(key, [
          ...(samples.get(key) ?? []),
          await sampleQuietly(candidate, size, plan.secondsEach, tool, cores),
        ])
      }
    }
  }
  return plan.sizes.flatMap((size) => {
    const reference = samples.get(keyOf(REFERENCE, size)) ?? []
    return present.map(({ name }) => rowOf(name, size, samples.get(keyOf(name, size)) ?? [], reference))
  })
}

function keyOf(name: string, size: Size): string {
  return `${size.name} ${name}`
}

/** The least disturbed of up to three samples. */
async function sampleQuietly(
  candidate: Candidate,
  size: Size,
  seconds: number,
  tool: LoadTool,
  cores: Cores,
): Promise<Sample> {
  let best = await sampleOnce(candidate, size, seconds, tool, cores)
  for (let attempt = 1; attempt < ATTEMPTS && (best.disturbed ?? 0) > MAX_DISTURBED; attempt++) {
    const next = await sampleOnce(candidate, size, seconds, tool, cores)
    if ((next.disturbed ?? 0) < (best.disturbed ?? 0)) best = next
  }
  return best
}

async function sampleOnce(
  candidate: Candidate,
  size: Size,
  seconds: number,
  tool: LoadTool,
  cores: Cores,
): Promise<Sample> {
  const { pid, stamped, pending } = candidate
  const stampedBefore = await stamped?.()
  const cpuBefore = pid === null ? null : cpuTimeMs(pid)
  const busyBefore = cores === null ? null : busyTimeMs(cores.measured)
  const startedAt = performance.now()
  const result = await load(tool, candidate.url, `/${size.name}/`, seconds, cores?.rest)
  const elapsedMs = performance.now() - startedAt
  const cpuAfter = pid === null ? null : cpuTimeMs(pid)
  const busyAfter = cores === null ? null : busyTimeMs(cores.measured)
  const waiting = await pending?.()
  if (result.failures > 0)
    throw new Error(`${candidate.name}: ${result.failures} of ${result.requests} requests failed`)
  if (stamped !== null && stampedBefore !== undefined) {
    // The last answer of each connection may have come after the client had stopped counting.
    const issued = (await stamped()) - stampedBefore
    if (issued < result.requests || issued > result.requests + 2 * CONNECTIONS) {
      throw new Error(`${candidate.name}: ${result.requests} answers, but ${issued} stamps`)
    }
  }
  await drained(candidate)
  await candidate.check(size)
  return {
    requestsPerSecond: result.requests / result.seconds,
    p50Ms: result.p50Ms,
    p99Ms: result.p99Ms,
    cpuMicros: cpuBefore === null || cpuAfter === null ? null : ((cpuAfter - cpuBefore) * 1000) / result.requests,
    auditedInTime: waiting === undefined ? null : Math.max(0, 1 - waiting / result.requests),
    disturbed:
      busyBefore === null || busyAfter === null || cpuBefore === null || cpuAfter === null
        ? null
        : Math.max(0, (busyAfter - busyBefore - (cpuAfter - cpuBefore)) / elapsedMs),
    requests: result.requests,
  }
}

/** Until the ledger has it all: sending it must not cost the next one. */
export async function drained(candidate: Candidate): Promise<void> {
  if (candidate.pending === null) return
  for (const deadline = Date.now() + DRAIN_MS; (await candidate.pending()) > 0;) {
    if (Date.now() > deadline) {
      throw new Error(`${candidate.name}: audit events wait for ${DRAIN_MS} ms\n${candidate.log?.() ?? ''}`)
    }
    await sleep(50)
  }
}

function rowOf(candidate: string, size: Size, samples: readonly Sample[], reference: readonly Sample[]): Row {
  const ratios = samples.map(
    ({ requestsPerSecond }, round) => requestsPerSecond / (reference[round]?.requestsPerSecond ?? NaN),
  )
  const known = (values: readonly (number | null)[]): number | null =>
    values.includes(null) ? null : median(values as number[])
  return {
    candidate,
    size: size.label,
    requestsPerSecond: median(samples.map((sample) => sample.requestsPerSecond)),
    p50Ms: median(samples.map((sample) => sample.p50Ms)),
    p99Ms: median(samples.map((sample) => sample.p99Ms)),
    cpuMicrosPerRequest: known(samples.map((sample) => sample.cpuMicros)),
    ratio: median(ratios),
    ratioRange: [Math.min(...ratios), Math.max(...ratios)],
    auditedInTime: known(samples.map((sample) => sample.auditedInTime)),
    disturbed: known(samples.map((sample) => sample.disturbed)),
    requests: samples.reduce((sum, { requests }) => sum + requests, 0),
  }
}

function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b)
  const middle = sorted.length >> 1
  const high = sorted[middle] ?? NaN
  return sorted.length % 2 === 1 ? high : ((sorted[middle - 1] ?? NaN) + high) / 2
}
