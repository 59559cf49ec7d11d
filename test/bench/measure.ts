import { setTimeout as sleep } from 'node:timers/promises'
import { REFERENCE, type Candidate } from './candidates.ts'
import { cpuTimeMs, type Cores } from './cores.ts'
import { CONNECTIONS, load, type LoadTool } from './load.ts'
import { SIZES, type Size } from './payload.ts'

export type Plan = {
  readonly rounds: number
  readonly secondsEach: number
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
  readonly requests: number
}

type Sample = {
  requestsPerSecond: number
  p50Ms: number
  p99Ms: number
  cpuMicros: number | null
  auditedInTime: number | null
  requests: number
}

const DRAIN_MS = 60_000

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
    for (const size of plan.sizes) {
      await candidate.check(size)
      await load(tool, candidate.url, `/${size.name}/`, plan.warmUpSeconds, cores?.rest)
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
          await sampleOnce(candidate, size, plan.secondsEach, tool, cores),
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
  const result = await load(tool, candidate.url, `/${size.name}/`, seconds, cores?.rest)
  const cpuAfter = pid === null ? null : cpuTimeMs(pid)
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
    requests: samples.reduce((sum, { requests }) => sum + requests, 0),
  }
}

function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b)
  const middle = sorted.length >> 1
  const high = sorted[middle] ?? NaN
  return sorted.length % 2 === 1 ? high : ((sorted[middle - 1] ?? NaN) + high) / 2
}
