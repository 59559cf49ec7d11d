import { spawnSync } from 'node:child_process'
import { readFileSync } from 'node:fs'

/** `taskset` CPU lists: one core for what is measured, the others for client, upstream and ledger. Null: nothing is pinned. */
export type Cores = { readonly measured: string; readonly rest: string } | null

/** Null on one core, and where `taskset` is missing: then all compete, and ratios say little. */
export function divideCores(): Cores {
  const allowed = allowedCpus()
  const [first, second, ...others] = allowed
  if (first === undefined || second === undefined) return null
  if (spawnSync('taskset', ['-c', String(first), 'true']).status !== 0) return null
  // Not the first: interrupts are mostly served there.
  return { measured: String(second), rest: [first, ...others].join(',') }
}

/** The command, to be run on these CPUs. */
export function pinned(cpus: string | undefined, command: readonly [string, ...string[]]): [string, string[]] {
  const [program, ...args] = command
  return cpus === undefined ? [program, args] : ['taskset', ['-c', cpus, program, ...args]]
}

function allowedCpus(): number[] {
  let list: string
  try {
    list = /^Cpus_allowed_list:\s*(\S+)$/m.exec(readFileSync('/proc/self/status', 'utf8'))?.[1] ?? ''
  } catch {
    return []
  }
  return list.split(',').flatMap((part) => {
    const [from = 0, to = from] = part.split('-').map(Number)
    return Array.from({ length: to - from + 1 }, (_, index) => from + index)
  })
}

/** CPU time that a process has used so far, all its threads, in milliseconds (resolution 10 ms); null where there is no /proc. */
export function cpuTimeMs(pid: number): number | null {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8')
    // proc(5): utime and stime are fields 14 and 15, in ticks of 1/100 s; field 2 may hold spaces.
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
    return (Number(fields[11]) + Number(fields[12])) * 10
  } catch {
    return null
  }
}

/** Time that a core has been busy so far with whatever process, in milliseconds; null where there is no /proc. */
export function busyTimeMs(cpu: string): number | null {
  try {
    const line = readFileSync('/proc/stat', 'utf8')
      .split('\n')
      .find((text) => text.startsWith(`cpu${cpu} `))
    if (line === undefined) return null
    // proc(5): user, nice, system, idle, iowait, irq, softirq, steal, in ticks of 1/100 s.
    const [user = 0, nice = 0, system = 0, , , irq = 0, softirq = 0, steal = 0] = line.split(' ').slice(1).map(Number)
    return (user + nice + system + irq + softirq + steal) * 10
  } catch {
    return null
  }
}
