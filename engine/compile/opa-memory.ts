import { SignetError } from '#core/error/signet-error.ts'

/** A share of the memory that OPA's processes have together. Who takes of it may run one process of that size until it gives it back. */
export interface OpaMemory {
  /** The most that one process can be given. */
  readonly maxMiB: number
  /** What a process gets that compiles one rule. Ordinary ones take 50. */
  readonly ruleMiB: number
  /**
   * Waits for so much, `maxMiB` at most, in the order of asking; resolves to what gives it back. Throws OPA_UNAVAILABLE when `deadline`
   * (of `performance.now()`) passes before: the processes of others have it, and another time it may go.
   */
  take(mib: number, deadline: number): Promise<() => void>
}

export interface OpaMemoryLanes {
  /** Of rules that are being applied: never waits for what is compiled. */
  readonly checks: OpaMemory
  /** Of the platform's rules: goes before those of namespaces, which leave two fifths of it free. */
  readonly root: OpaMemory
  readonly namespaces: OpaMemory
}

/** Rules that are checked at once while they are applied: two, and one of the platform's own. */
export const CHECKS_AT_ONCE = 3
const RULE_MIB = 256

/** Divides `totalMiB` (512 at least): OPA's processes, each killed at its share, never take more together. */
export function createOpaMemory(totalMiB: number): OpaMemoryLanes {
  const ruleMiB = Math.min(RULE_MIB, Math.floor(totalMiB / 8))
  const checksMiB = CHECKS_AT_ONCE * ruleMiB
  const [checks] = createLanes(ruleMiB, checksMiB, [ruleMiB])
  const left = totalMiB - checksMiB
  const [root, namespaces] = createLanes(ruleMiB, left, [left, Math.floor(left * 0.6)])
  return { checks: checks!, root: root!, namespaces: namespaces! }
}

type Waiting = { readonly mib: number; readonly grant: () => void }
type Lane = { readonly maxMiB: number; readonly atOnceMiB: number; usedMiB: number; readonly waiting: Set<Waiting> }

/** Lanes over one sum, the first before the others; each bounded by its own. With one lane, its bound is that of a process. */
function createLanes(ruleMiB: number, totalMiB: number, bounds: readonly number[]): OpaMemory[] {
  const lanes = bounds.map((maxMiB): Lane => ({
    maxMiB,
    atOnceMiB: bounds.length === 1 ? totalMiB : maxMiB,
    usedMiB: 0,
    waiting: new Set(),
  }))
  let usedMiB = 0

  /** Who is first in the first lane is waited for, so that small ones do not keep a big one out for ever. */
  const grant = (): void => {
    for (const lane of lanes) {
      for (const next of lane.waiting) {
        if (lane.usedMiB + next.mib > lane.atOnceMiB) break
        if (usedMiB + next.mib > totalMiB) return
        lane.waiting.delete(next)
        lane.usedMiB += next.mib
        usedMiB += next.mib
        next.grant()
      }
    }
  }

  return lanes.map((lane) => ({
    maxMiB: lane.maxMiB,
    ruleMiB,
    take(wanted, deadline) {
      const mib = Math.min(wanted, lane.maxMiB)
      let isHeld = true
      const release = (): void => {
        if (!isHeld) return
        isHeld = false
        lane.usedMiB -= mib
        usedMiB -= mib
        grant()
      }
      return new Promise((resolve, reject) => {
        const waiting: Waiting = {
          mib,
          grant() {
            clearTimeout(timer)
            resolve(release)
          },
        }
        const timer = setTimeout(
          () => {
            lane.waiting.delete(waiting)
            reject(new SignetError('OPA_UNAVAILABLE', 'Other rules that are compiled have the memory for OPA'))
            // Others may have waited behind it.
            grant()
          },
          Math.max(1, deadline - performance.now()),
        )
        lane.waiting.add(waiting)
        grant()
      })
    },
  }))
}

const MIB_PER_SOURCE_KIB = 0.25

/**
 * What OPA is given to build wasm of so much Rego, or to evaluate it. With 5,000 rules (3.6 MiB) it takes 1,430 MiB if it may, and 780 if it must,
 * by collecting more often (`GOMEMLIMIT`); then it takes twice the time.
 */
export function memoryForSources(bytes: number): number {
  return RULE_MIB + Math.ceil((bytes / 1_024) * MIB_PER_SOURCE_KIB)
}
