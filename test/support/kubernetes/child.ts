import { spawn, type ChildProcess } from 'node:child_process'
import { createWriteStream } from 'node:fs'
import { open } from 'node:fs/promises'
import { setTimeout as sleep } from 'node:timers/promises'
import { childrenOf } from './process-tree.ts'

/** A program of the cluster under test: its output goes to a file, of which the end is shown when something goes wrong. */
export type Program = {
  readonly name: string
  readonly pid: number
  readonly logFile: string
  ended(): boolean
  /** The end of its log, at most 8 KiB. */
  output(): Promise<string>
  /** SIGKILL, and the end of it: with an open watch kube-apiserver takes a minute over SIGTERM. */
  kill(): Promise<void>
}

export type ProgramOptions = {
  readonly name: string
  readonly command: string
  readonly args: readonly string[]
  readonly logFile: string
  readonly env?: NodeJS.ProcessEnv
  readonly cwd?: string
}

export async function startProgram(options: ProgramOptions): Promise<Program> {
  const log = createWriteStream(options.logFile, { flags: 'a', mode: 0o600 })
  await new Promise<void>((resolve, reject) => {
    log.once('open', () => resolve())
    log.once('error', reject)
  })
  const child: ChildProcess = spawn(options.command, options.args, {
    // A file descriptor rather than a pipe: the program neither blocks on us nor dies of us.
    stdio: ['ignore', (log as unknown as { fd: number }).fd, (log as unknown as { fd: number }).fd],
    ...(options.env === undefined ? {} : { env: options.env }),
    ...(options.cwd === undefined ? {} : { cwd: options.cwd }),
  })
  const exited = new Promise<void>((resolve) => {
    child.once('exit', () => resolve())
    child.once('error', () => resolve())
  })
  await new Promise<void>((resolve, reject) => {
    child.once('spawn', () => resolve())
    child.once('error', (cause) => reject(new Error(`${options.command} did not start: ${cause.message}`, { cause })))
  })
  log.close()
  const ended = (): boolean => child.exitCode !== null || child.signalCode !== null
  return {
    name: options.name,
    pid: child.pid ?? 0,
    logFile: options.logFile,
    ended,
    output: () => tailOf(options.logFile),
    async kill() {
      // `nsenter` does not take along what it started.
      for (const below of childrenOf(child.pid ?? 0)) killQuietly(below)
      if (!ended()) child.kill('SIGKILL')
      await exited
    },
  }
}

/** Waits until `ready` says yes; the programs' logs are in the error when one of them ends first or time is up. */
export async function waitUntilReady(
  what: string,
  programs: readonly Program[],
  ready: () => Promise<boolean>,
  timeoutMs: number,
): Promise<void> {
  for (const deadline = Date.now() + timeoutMs; ;) {
    const dead = programs.find((program) => program.ended())
    if (dead !== undefined) throw new Error(`${dead.name} ended before ${what}:\n${await dead.output()}`)
    if (await ready().catch(() => false)) return
    if (Date.now() > deadline) {
      const logs = await Promise.all(programs.map(async (one) => `--- ${one.name}\n${await one.output()}`))
      throw new Error(`no ${what} within ${timeoutMs} ms\n${logs.join('\n')}`)
    }
    await sleep(50)
  }
}

function killQuietly(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL')
  } catch {
    // It has ended by itself.
  }
}

async function tailOf(file: string): Promise<string> {
  const handle = await open(file, 'r').catch(() => null)
  if (handle === null) return ''
  try {
    const { size } = await handle.stat()
    const buffer = Buffer.alloc(Math.min(size, 8 * 1024))
    await handle.read(buffer, 0, buffer.length, size - buffer.length)
    return buffer.toString()
  } finally {
    await handle.close()
  }
}
