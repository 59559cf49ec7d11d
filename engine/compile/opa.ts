import { spawn } from 'node:child_process'
import { basename } from 'node:path'
import { SignetError } from '#core/error/signet-error.ts'
import type { RuleProblem } from './problem.ts'

/** What OPA needs to run, and until when it may. */
export interface OpaProcess {
  /** Path of the binary. */
  binary: string
  /** Folder it runs in; file arguments are relative to it. */
  directory: string
  /** `performance.now()` at which it is killed. */
  deadline: number
}

export interface OpaResult {
  code: number
  stdout: string
  stderr: string
}

const MAX_OUTPUT_BYTES = 64 << 20

/** Runs OPA with these arguments (never through a shell). Throws OPA_UNAVAILABLE, or RULE_INVALID when time or output run out. */
export function runOpa(opa: OpaProcess, args: readonly string[]): Promise<OpaResult> {
  return new Promise((resolve, reject) => {
    const child = spawn(opa.binary, args, {
      cwd: opa.directory,
      // Nothing of the caller's environment: no proxy, no credentials, no home.
      env: { PATH: '/nonexistent', HOME: opa.directory, TMPDIR: opa.directory },
      stdio: ['ignore', 'pipe', 'pipe'],
    })
    let refusal: string | undefined
    const stop = (why: string): void => {
      refusal ??= why
      child.kill('SIGKILL')
    }
    const timer = setTimeout(
      () => stop(`OPA did not finish in time (opa ${args[0]})`),
      Math.max(1, opa.deadline - performance.now()),
    )
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
      clearTimeout(timer)
      reject(new SignetError('OPA_UNAVAILABLE', `OPA at ${opa.binary} cannot be run: ${cause.message}`, { cause }))
    })
    child.once('close', (code, signal) => {
      clearTimeout(timer)
      if (refusal !== undefined) reject(new SignetError('RULE_INVALID', refusal, { details: { errors: [] } }))
      else if (code === null) reject(new SignetError('OPA_UNAVAILABLE', `OPA was ended by ${signal} (opa ${args[0]})`))
      else {
        resolve({
          code,
          stdout: Buffer.concat(chunks.stdout).toString('utf8'),
          stderr: Buffer.concat(chunks.stderr).toString('utf8'),
        })
      }
    })
  })
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
  const inMessage = (text: string): string => text.replace(/[\w.]+\.rego/g, (name) => paths.get(name) ?? name)
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
    for (const match of output.matchAll(/([^\s:]+\.rego):(\d+): (?:rego_\w+: )?(.+)/g)) {
      problems.push({ file: toAuthor(match[1]), line: Number(match[2]), column: 1, message: inMessage(match[3]!) })
    }
    return problems.length > 0 ? problems : [{ file: '', line: 1, column: 1, message: output.trim().slice(0, 1000) }]
  }
}
