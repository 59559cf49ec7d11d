import { spawn, type ChildProcess } from 'node:child_process'
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { countVitestReport, type Counts, type Failure } from './vitest-report.ts'

export type CheckResult = {
  readonly name: string
  readonly counts: Counts
  readonly failures: readonly Failure[]
  readonly seconds: number
}

// A run that is told to stop takes its tool with it.
let running: ChildProcess | undefined
for (const signal of ['SIGINT', 'SIGTERM'] as const) {
  process.once(signal, () => {
    running?.kill(signal)
    process.exit(1)
  })
}

const ROOT = path.resolve(import.meta.dirname, '../..')
const BIN = path.join(ROOT, 'node_modules/.bin')

/** A tool that says yes or no: it counts as one. Its output is shown when it says no. */
export async function runStatic(name: string, tool: string, args: readonly string[]): Promise<CheckResult> {
  const startedAt = Date.now()
  const { exitCode, output } = await run(tool, args, 'capture')
  const passed = exitCode === 0
  if (!passed) process.stdout.write(output)
  return {
    name,
    counts: { passed: passed ? 1 : 0, failed: passed ? 0 : 1, skipped: 0 },
    failures: passed
      ? []
      : [{ where: name, reason: `${tool} ended with ${exitCode ?? 'a signal'}; its output is above` }],
    seconds: secondsSince(startedAt),
  }
}

/** A vitest run; progress is shown as it goes, counts come from its own JSON report. */
export async function runVitest(name: string, args: readonly string[]): Promise<CheckResult> {
  const startedAt = Date.now()
  const folder = await mkdtemp(path.join(tmpdir(), 'signet-test-'))
  try {
    const reportFile = path.join(folder, 'report.json')
    const all = ['run', '--reporter=default', '--reporter=json', `--outputFile.json=${reportFile}`, ...args]
    const { exitCode } = await run('vitest', all, 'show')
    const report = await readFile(reportFile, 'utf8').catch(() => null)
    const { counts, failures } = countVitestReport(report, exitCode)
    const relative = failures.map((failure) => ({ ...failure, where: failure.where.replace(`${ROOT}/`, '') }))
    return { name, counts, failures: relative, seconds: secondsSince(startedAt) }
  } finally {
    await rm(folder, { recursive: true, force: true })
  }
}

function run(
  tool: string,
  args: readonly string[],
  mode: 'capture' | 'show',
): Promise<{ exitCode: number | null; output: string }> {
  return new Promise((resolve) => {
    const child = spawn(path.join(BIN, tool), args, {
      cwd: ROOT,
      // The tools' own `node` is the one that runs them: Node 24, whatever else is installed.
      env: {
        ...process.env,
        PATH: `${BIN}${path.delimiter}${process.env.PATH ?? ''}`,
        FORCE_COLOR: process.stdout.isTTY ? '1' : '0',
      },
      stdio: mode === 'show' ? ['ignore', 'inherit', 'inherit'] : ['ignore', 'pipe', 'pipe'],
    })
    running = child
    const chunks: Buffer[] = []
    child.stdout?.on('data', (chunk: Buffer) => chunks.push(chunk))
    child.stderr?.on('data', (chunk: Buffer) => chunks.push(chunk))
    child.once('error', (error) => resolve({ exitCode: 127, output: `${tool} did not run: ${error.message}\n` }))
    child.once('close', (exitCode) => resolve({ exitCode, output: Buffer.concat(chunks).toString() }))
  })
}

export function secondsSince(startedAt: number): number {
  return (Date.now() - startedAt) / 1000
}
