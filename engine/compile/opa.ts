import { spawn } from 'node:child_process'
import { readFile } from 'node:fs/promises'
import { basename } from 'node:path'
import { fileURLToPath } from 'node:url'
import { SignetError } from '#core/error/signet-error.ts'
import type { OpaMemory } from './opa-memory.ts'
import type { RuleProblem } from './problem.ts'

/** What OPA needs to run, and until when it may. */
export interface OpaProcess {
  /** Path of the binary. */
  binary: string
  /** Folder it runs in; file arguments are relative to it. */
  directory: string
  /** `performance.now()` at which it is killed. */
  deadline: number
  /** For this process, from its start; within `deadline`. */
  timeoutMs?: number
  /** Resident memory at which it is killed; default 2,048, or what a rule has of `memory`. */
  maxMemoryMiB?: number
  /** What it has to wait for its share of. */
  memory?: OpaMemory
}

export interface OpaResult {
  code: number
  stdout: string
  stderr: string
}

/** Built-ins that run in wasm, and no network (`tools/opa/generate-capabilities.ts`). */
export const CAPABILITIES = fileURLToPath(new URL('capabilities.json', import.meta.url))

/** Of one message, and of all errors that OPA wrote as text. */
const MAX_MESSAGE_CHARS = 8_192
const MAX_ERROR_CHARS = 262_144
const MAX_OUTPUT_BYTES = 64 << 20
/** Of resident memory. Go gives memory back when it nears the soft limit; past the hard one the process is killed. */
const DEFAULT_MAX_MEMORY_MIB = 2048
const MEMORY_CHECK_MS = 50

/**
 * Runs OPA with these arguments (never through a shell). Throws OPA_UNAVAILABLE, or RULE_INVALID when time, memory or output run out.
 * Memory is measured from outside, every 50 ms: a limit on address space would be of no use, as Go reserves much more than it takes.
 */
export async function runOpa(opa: OpaProcess, args: readonly string[]): Promise<OpaResult> {
  const { memory } = opa
  if (memory === undefined) return run(opa, opa.maxMemoryMiB ?? DEFAULT_MAX_MEMORY_MIB, args)
  const maxMemoryMiB = Math.min(opa.maxMemoryMiB ?? memory.ruleMiB, memory.maxMiB)
  const release = await memory.take(maxMemoryMiB, opa.deadline)
  try {
    return await run(opa, maxMemoryMiB, args)
  } finally {
    release()
  }
}

function run(opa: OpaProcess, maxMemoryMiB: number, args: readonly string[]): Promise<OpaResult> {
  return new Promise((resolve, reject) => {
    const child = spawn(opa.binary, args, {
      cwd: opa.directory,
      // Nothing of the caller's environment: no proxy, no credentials, no home.
      env: {
        PATH: '/nonexistent',
        HOME: opa.directory,
        TMPDIR: opa.directory,
        GOMEMLIMIT: `${Math.ceil(maxMemoryMiB * 0.75)}MiB`,
        // A short process collects more often than it needs to: the tree that it builds lives to its end.
        GOGC: '200',
      },
      stdio: ['ignore', 'pipe', 'pipe'],
    })
    let refusal: string | undefined
    const stop = (why: string): void => {
      refusal ??= why
      child.kill('SIGKILL')
    }
    const timer = setTimeout(
      () => stop(`OPA did not finish in time (opa ${args[0]})`),
      Math.max(1, Math.min(opa.timeoutMs ?? Infinity, opa.deadline - performance.now())),
    )
    const checkMemory = async (): Promise<void> => {
      if ((await residentMiB(child.pid)) <= maxMemoryMiB) return
      stop(`OPA took more than ${maxMemoryMiB} MiB of memory (opa ${args[0]})`)
    }
    const watch = setInterval(() => {
      void checkMemory()
    }, MEMORY_CHECK_MS)
    const clear = (): void => {
      clearTimeout(timer)
      clearInterval(watch)
    }
    const chunks: { stdout: Buffer[]; stderr: Buffer[] } = { stdout: [], stderr: [] }
    let total = 0
    for (const name of ['stdout', 'stderr'] as const) {
      child[name].on('data', (chunk: Buffer) => {
        total += chunk.length
        if (total > MAX_OUTPUT_BYTES) stop(`OPA wrote more than ${MAX_OUTPUT_BYTES >> 20} MiB (opa ${args[0]})`)
        else chunks[name].push(chunk)
      })
    }
    child.once('error', (cause) => {
      clear()
      reject(new SignetError('OPA_UNAVAILABLE', `OPA at ${opa.binary} cannot be run: ${cause.message}`, { cause }))
    })
    child.once('close', (code, signal) => {
      clear()
      const stderr = Buffer.concat(chunks.stderr).toString('utf8')
      // A Go program that recurses too deep or runs out of memory prints its stack.
      if (code === 2 && /^(fatal error|runtime):/m.test(stderr)) refusal ??= `OPA cannot cope with it (opa ${args[0]})`
      if (refusal !== undefined) reject(new SignetError('RULE_INVALID', refusal, { details: { errors: [] } }))
      else if (code === null) reject(new SignetError('OPA_UNAVAILABLE', `OPA was ended by ${signal} (opa ${args[0]})`))
      else resolve({ code, stdout: Buffer.concat(chunks.stdout).toString('utf8'), stderr })
    })
  })
}

/** Resident memory of a process; 0 where the system does not tell (only Linux has /proc). */
async function residentMiB(pid: number | undefined): Promise<number> {
  try {
    const statm = await readFile(`/proc/${pid}/statm`, 'utf8')
    // In pages, of 4 KiB but on few arm64 machines, where the limit is then a wider one.
    return Number(statm.split(' ')[1]) / 256
  } catch {
    return 0
  }
}

interface OpaError {
  message: string
  code?: string
  location?: { file?: string; row?: number; col?: number }
  details?: unknown
}

/**
 * The problems in OPA's error output, JSON (`--format json`) or text (`file:row: code: message`); `paths` maps file names
 * that OPA was given to those of the author.
 */
export function readOpaErrors(output: string, paths: ReadonlyMap<string, string>): RuleProblem[] {
  // Authors' words are in the messages, and may be 64 KiB long: a name begins where a word begins, and is short.
  const inMessage = (text: string): string =>
    text.slice(0, MAX_MESSAGE_CHARS).replace(/(?<![\w.])[\w.]{1,200}\.rego/g, (name) => paths.get(name) ?? name)
  const toAuthor = (file: string | undefined): string => paths.get(basename(file ?? '')) ?? file ?? ''
  try {
    const { errors } = JSON.parse(output) as { errors: OpaError[] }
    return errors.map((error) => ({
      file: toAuthor(error.location?.file),
      line: error.location?.row ?? 1,
      // OPA gives 0 for the end of a file.
      column: Math.max(1, error.location?.col ?? 1),
      message: inMessage(error.message),
    }))
  } catch {
    const problems: RuleProblem[] = []
    const found = output
      .slice(0, MAX_ERROR_CHARS)
      .matchAll(/(?<![^\s:])([^\s:]{1,300}\.rego):(\d{1,9}): (?:rego_\w{1,40}: )?(.{1,8000})/g)
    for (const match of found) {
      problems.push({ file: toAuthor(match[1]), line: Number(match[2]), column: 1, message: inMessage(match[3]!) })
    }
    return problems.length > 0 ? problems : [{ file: '', line: 1, column: 1, message: output.trim().slice(0, 1000) }]
  }
}
