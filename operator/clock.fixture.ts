import type { Clock } from './clock.ts'

export type ManualClock = Clock & {
  /** Moves time on, firing what falls due in order and letting promises settle in between. */
  advance(ms: number): Promise<void>
  /** Stops the monotonic clock's timers from firing while time goes on: a process that does not get the processor. */
  stall(ms: number): void
  readonly pendingTimers: number
}

/** A clock that stands still until a test moves it. */
export function manualClock(startWallMs = Date.parse('2026-11-23T09:30:00.000Z')): ManualClock {
  let nowMs = 0
  let nextId = 0
  const timers = new Map<number, { dueMs: number; run: () => void }>()
  const nextDue = (untilMs: number): [number, { dueMs: number; run: () => void }] | undefined => {
    let best: [number, { dueMs: number; run: () => void }] | undefined
    for (const entry of timers) if (entry[1].dueMs <= untilMs && (!best || entry[1].dueMs < best[1].dueMs)) best = entry
    return best
  }
  return {
    monotonicMs: () => nowMs,
    wallMs: () => startWallMs + nowMs,
    timer(ms, run) {
      const id = nextId++
      timers.set(id, { dueMs: nowMs + Math.max(0, ms), run })
      return () => void timers.delete(id)
    },
    async advance(ms) {
      const untilMs = nowMs + ms
      await settle()
      for (let due = nextDue(untilMs); due !== undefined; due = nextDue(untilMs)) {
        const [id, timer] = due
        timers.delete(id)
        nowMs = Math.max(nowMs, timer.dueMs)
        timer.run()
        await settle()
      }
      nowMs = Math.max(nowMs, untilMs)
      await settle()
    },
    stall(ms) {
      nowMs += ms
    },
    get pendingTimers() {
      return timers.size
    },
  }
}

/** Lets what was resolved run on. */
export async function settle(): Promise<void> {
  for (let turn = 0; turn < 5; turn++) await new Promise((resolve) => setImmediate(resolve))
}
