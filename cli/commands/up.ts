import { readFileSync, rmSync, writeFileSync } from 'node:fs'
import { mkdir } from 'node:fs/promises'
import path from 'node:path'
import { parseArgs } from 'node:util'
import { SignetError } from '#core/error/signet-error.ts'
import { readConfig } from '#runtime/config.ts'
import { runProcess } from '#runtime/process/lifecycle.ts'
import { ROOT, stateFolder, type StateFolder } from '../state.ts'
import { UP_CONFIG } from '../up/config.ts'
import { guide } from '../up/guide.ts'
import { startStack, type Stack } from '../up/stack.ts'

export const UP_HELP = `signet up (npm start)

Starts here, and stops with Ctrl-C: two embedded PostgreSQL servers, the ledger, governance, a demo service and the
proxy in front of it. Keys, tokens and data stay in .signet/ between starts.

  SIGNET_UPSTREAM=http://127.0.0.1:3000   puts the proxy in front of this service instead of the demo
  SIGNET_STATE_DIR, SIGNET_HOST, SIGNET_EXTERNAL_PORT, SIGNET_INTERNAL_PORT, SIGNET_ADMIN_PORT, SIGNET_LEDGER_PORT,
  SIGNET_GOVERNANCE_PORT, SIGNET_DEMO_PORT
                                          where; variables of the proxy, the ledger and governance are passed on
                                          to them (docs/reference/config.md)
`

/** One Ctrl-C reaches this process several ways: from the terminal, from npm, from the bootstrap. */
const SAME_SIGNAL_MS = 1_000

/** Runs until it is stopped; the process then leaves from here. */
export async function up(args: string[], env: Readonly<Record<string, string | undefined>>): Promise<number> {
  parseArgs({ args, options: {} })
  const say = (line: string): void => {
    process.stdout.write(`signet: ${line}\n`)
  }
  await runProcess({
    name: 'signet',
    sameSignalMs: SAME_SIGNAL_MS,
    drainMs: 60_000,
    start: async (signal) => {
      const config = readConfig(UP_CONFIG, env)
      const state = stateFolder(path.resolve(config.SIGNET_STATE_DIR ?? path.join(ROOT, '.signet')))
      await mkdir(state.folder, { recursive: true, mode: 0o711 })
      const release = claimFolder(state)
      let stack: Stack
      try {
        stack = await startStack({ config, env, state, say, signal })
      } catch (error) {
        release()
        throw error
      }
      process.stdout.write(guide(stack, state, process.cwd(), config.SIGNET_UPSTREAM === undefined))
      const stop = async (): Promise<void> => {
        say('stopping')
        await stack.stop()
        release()
        say('stopped; the data stays')
      }
      void stack.broken.then(async (why) => {
        if (signal.aborted) return
        process.stderr.write(`signet: ${why}\n`)
        await stop()
        process.exit(1)
      })
      return { stop }
    },
  })
  return 0
}

/** One stack a folder. @throws SignetError CONFIG_INVALID while another one runs on it */
function claimFolder(state: StateFolder): () => void {
  const file = path.join(state.folder, 'up.pid')
  let other = 0
  try {
    other = Number.parseInt(readFileSync(file, 'utf8'), 10)
  } catch {
    // Nobody ever was, or the one before left in order.
  }
  if (other > 0 && other !== process.pid && isOurs(other)) {
    throw new SignetError(
      'CONFIG_INVALID',
      `another signet up (process ${other}) is running on ${state.folder}; stop it, or set SIGNET_STATE_DIR and the ports`,
    )
  }
  writeFileSync(file, `${process.pid}\n`)
  return () => rmSync(file, { force: true })
}

/** Whether the process lives and is one of ours: its number may have gone to another one since. */
function isOurs(pid: number): boolean {
  try {
    process.kill(pid, 0)
  } catch {
    return false
  }
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'utf8').includes(`main.ts\0up`)
  } catch {
    return true
  }
}
