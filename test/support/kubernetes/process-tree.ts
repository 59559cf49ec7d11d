import { readFileSync } from 'node:fs'

/** Process ids below a process, as seen from outside of its namespaces. */
export function childrenOf(pid: number): number[] {
  try {
    return readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').split(' ').filter(Boolean).map(Number)
  } catch {
    return []
  }
}
