import { spawn } from 'node:child_process'
import { once } from 'node:events'

/**
 * Cleans up after us when we cannot: a shell that holds the other end of a pipe, and when the pipe closes, however this process went,
 * kills the programs it was told of and removes the folder.
 */
export type Keeper = {
  readonly pid: number
  /** From now on these, instead of what it was told before. */
  watch(pids: readonly number[]): void
  /** Kills and removes now; resolves when that is done. */
  close(): Promise<void>
}

// $1: the folder; $2: what else to run, with the folder as $1. Reads one line of process ids at a time; the last one counts.
const SCRIPT = `
pids=
while read -r line; do pids=$line; done
[ -z "$pids" ] || kill -9 $pids 2>/dev/null
eval "$2"
for i in 1 2 3 4 5 6 7 8 9 10; do rm -rf -- "$1" 2>/dev/null && break; sleep 0.5; done
`

export function startKeeper(folder: string, lastCommand = ''): Keeper {
  // A session of its own: what interrupts the test run does not interrupt this.
  const shell = spawn('sh', ['-c', SCRIPT, 'keeper', folder, lastCommand], {
    detached: true,
    stdio: ['pipe', 'ignore', 'ignore'],
  })
  shell.stdin.on('error', () => undefined)
  const exited = once(shell, 'exit')
  exited.catch(() => undefined)
  shell.unref()
  return {
    pid: shell.pid ?? 0,
    watch(pids) {
      shell.stdin.write(`${pids.join(' ')}\n`)
    },
    async close() {
      shell.ref()
      shell.stdin.end()
      await exited
    },
  }
}
