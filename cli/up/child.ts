import { spawn, type ChildProcess } from 'node:child_process'
import { createWriteStream, mkdirSync, renameSync, statSync, type WriteStream } from 'node:fs'
import path from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { SignetError } from '#core/error/signet-error.ts'
import { ROOT } from '../state.ts'

export type Child = {
  readonly name: string
  /** Resolves when it is gone, with why in plain words. */
  readonly exited: Promise<string>
  /** SIGTERM, and after a while SIGKILL; resolves when it is gone. */
  stop(): Promise<void>
}

const STOP_TIMEOUT_MS = 30_000
const MAX_LOG_BYTES = 16 * 1024 * 1024
const TAIL_CHARS = 4_000

/**
 * Starts one of the project's processes. Its log goes to `logs/NAME.log` (the one before is kept as `.1`). A process group of its own
 * keeps Ctrl-C from it, so that processes stop in order; the channel tells it when this process is gone.
 */
export function startChild(options: {
  name: string
  script: string
  args?: string[]
  env: Record<string, string>
  logs: string
}): Child {
  const child = spawn(process.execPath, [path.join(ROOT, options.script), ...(options.args ?? [])], {
    cwd: ROOT,
    env: options.env,
    stdio: ['ignore', 'pipe', 'pipe', 'ipc'],
    detached: true,
  })
  const log = new RotatingLog(options.logs, options.name)
  let tail = ''
  const keep = (chunk: Buffer): void => {
    log.write(chunk)
    tail = (tail + chunk.toString()).slice(-TAIL_CHARS)
  }
  child.stdout?.on('data', keep)
  child.stderr?.on('data', keep)
  const exited = new Promise<string>((resolve) => {
    child.once('error', (error) => resolve(`the ${options.name} did not run: ${error.message}`))
    // A moment, so that its last words are read.
    child.once('exit', (code, signal) => {
      setTimeout(() => {
        log.end()
        resolve(`the ${options.name} ended (${signal ?? `exit ${code}`}): ${lastWords(tail)}`)
      }, 50)
    })
  })
  return { name: options.name, exited, stop: () => stop(child, exited) }
}

async function stop(child: ChildProcess, exited: Promise<string>): Promise<void> {
  if (child.exitCode === null && child.signalCode === null) {
    child.kill('SIGTERM')
    const timer = setTimeout(() => child.kill('SIGKILL'), STOP_TIMEOUT_MS)
    await exited
    clearTimeout(timer)
  }
  await exited
}

/** Waits until the URL answers 200. @throws SignetError INTERNAL when the child ends first, or nothing comes in time */
export async function awaitReady(child: Child, url: string, signal: AbortSignal, timeoutMs = 60_000): Promise<void> {
  const ended = child.exited.then((why) => {
    throw new SignetError('INTERNAL', why)
  })
  const poll = async (): Promise<void> => {
    let last = 'no answer'
    for (const deadline = Date.now() + timeoutMs; Date.now() < deadline;) {
      signal.throwIfAborted()
      try {
        const response = await fetch(url, { signal: AbortSignal.timeout(2_000) })
        const text = (await response.text()).trim()
        if (response.ok) return
        last = text.slice(0, 300)
      } catch {
        // It does not listen yet.
      }
      await sleep(50)
    }
    throw new SignetError('INTERNAL', `the ${child.name} did not get ready within ${timeoutMs / 1000} s: ${last}`)
  }
  await Promise.race([poll(), ended])
}

/** What a process said last in plain text, or the message of its last log line. */
function lastWords(tail: string): string {
  const lines = tail.split('\n').filter((line) => line.trim() !== '')
  const plain = lines.filter((line) => !line.startsWith('{'))
  if (plain.length > 0) return plain.slice(-3).join(' ').slice(-600)
  try {
    const { message, error } = JSON.parse(lines.at(-1) ?? '') as { message?: string; error?: { message?: string } }
    return [message, error?.message].filter(Boolean).join(': ')
  } catch {
    return 'it said nothing'
  }
}

/** A log file that never holds more than twice its limit on disk. */
class RotatingLog {
  readonly #file: string
  #stream: WriteStream
  #bytes: number

  constructor(folder: string, name: string) {
    mkdirSync(folder, { recursive: true })
    this.#file = path.join(folder, `${name}.log`)
    this.#bytes = statSync(this.#file, { throwIfNoEntry: false })?.size ?? 0
    this.#stream = this.#open()
  }

  write(chunk: Buffer): void {
    this.#bytes += chunk.length
    if (this.#bytes > MAX_LOG_BYTES) {
      this.#stream.end()
      renameSync(this.#file, `${this.#file}.1`)
      this.#stream = this.#open()
      this.#bytes = chunk.length
    }
    this.#stream.write(chunk)
  }

  end(): void {
    this.#stream.end()
  }

  #open(): WriteStream {
    const stream = createWriteStream(this.#file, { flags: 'a', mode: 0o600 })
    // A full disk costs the log, not the stack.
    stream.on('error', () => undefined)
    return stream
  }
}
