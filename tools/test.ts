// `npm test`: every check, with progress as it goes and a table at the end whose counts come from the real runs.
// `npm test -- types unit` runs only those.
import path from 'node:path'
import { ensureKafka } from '#tools/kafka/build.ts'
import { ensureObjectStore } from '#tools/s3/build.ts'
import { ensureOpa } from '#tools/opa/build.ts'
import { ensureSchemathesis } from '#tools/schemathesis/build.ts'
import { dependentsOf } from './checks/dependents.ts'
import { startKubernetesBuilds, type Outcome } from './checks/kubernetes.ts'
import { runStatic, runVitest, secondsSince, type CheckResult } from './checks/run.ts'

const ROOT = path.resolve(import.meta.dirname, '..')
const CHECKS = [
  'types',
  'lint',
  'format',
  'unused',
  'unit',
  'docs',
  'policies',
  'integration',
  'operator',
  'kubernetes',
] as const
type Check = (typeof CHECKS)[number]

function say(line: string): void {
  process.stdout.write(`\n== ${line}\n`)
}

async function runChecks(wanted: ReadonlySet<Check>): Promise<CheckResult[]> {
  const results: CheckResult[] = []
  const check = async (name: Check, run: () => Promise<CheckResult>): Promise<void> => {
    if (!wanted.has(name)) return
    say(name)
    const result = await run()
    results.push(result)
    const { passed, failed } = result.counts
    process.stdout.write(`   ${name}: ${passed} passed, ${failed} failed, ${result.seconds.toFixed(1)} s\n`)
  }

  /** What could not be built counts as a failure of its own. */
  const built = async (name: string, outcome: Outcome): Promise<boolean> => {
    const problem = await outcome
    if (problem === null) return true
    say(name)
    process.stdout.write(`   ${problem}\n`)
    const counts = { passed: 0, failed: 1, skipped: 0 }
    const seconds = secondsSince(startedAt)
    results.push({ name, counts, failures: [{ where: name, reason: problem }], seconds })
    return false
  }

  // OPA takes minutes to build on a cold machine, and Kubernetes a good while: everything that can do without goes first.
  const startedAt = Date.now()
  const opaNeeded = (['policies', 'integration', 'operator', 'kubernetes'] as const).some((name) => wanted.has(name))
  const opa = opaNeeded
    ? ensureOpa({ onProgress: (line) => process.stdout.write(`   [opa] ${line}\n`) }).then(
        () => null,
        (error: unknown) => (error instanceof Error ? error.message : String(error)),
      )
    : Promise.resolve(null)
  const kafka = wanted.has('integration')
    ? ensureKafka({ onProgress: (line) => process.stdout.write(`   [kafka] ${line}\n`) }).then(
        () => null,
        (error: unknown) => (error instanceof Error ? error.message : String(error)),
      )
    : Promise.resolve(null)
  const objectStore = wanted.has('integration')
    ? ensureObjectStore({ onProgress: (line) => process.stdout.write(`   [s3] ${line}\n`) }).then(
        () => null,
        (error: unknown) => (error instanceof Error ? error.message : String(error)),
      )
    : Promise.resolve(null)
  const schemathesis = wanted.has('integration')
    ? ensureSchemathesis({ onProgress: (line) => process.stdout.write(`   [schemathesis] ${line}\n`) }).then(
        () => null,
        (error: unknown) => (error instanceof Error ? error.message : String(error)),
      )
    : Promise.resolve(null)
  const kubernetes =
    wanted.has('operator') || wanted.has('kubernetes')
      ? startKubernetesBuilds({ after: opa, onProgress: (line) => process.stdout.write(`   [kubernetes] ${line}\n`) })
      : null
  const withOpa = dependentsOf(
    'tools/opa/build.ts',
    ['{core,engine,runtime,proxy,ledger,operator,governance,sdk,cli,tools,policies}/**/*.test.ts'],
    ROOT,
  )

  await check('types', () => runStatic('types', 'tsc', ['--noEmit']))
  await check('lint', () => runStatic('lint', 'oxlint', ['--type-aware', '--deny-warnings']))
  await check('format', () => runStatic('format', 'oxfmt', ['--check', '.']))
  await check('unused', () => runStatic('unused', 'knip', ['--no-progress']))
  await check('unit', () => runVitest('unit', ['--project', 'unit', ...withOpa.flatMap((file) => ['--exclude', file])]))
  await check('docs', () => runVitest('docs', ['--project', 'docs']))

  await built('opa', opa)
  await built('kafka', kafka)
  await built('s3', objectStore)
  await built('schemathesis', schemathesis)
  if (withOpa.length > 0) await check('policies', () => runVitest('policies', ['--project', 'unit', ...withOpa]))
  await check('integration', () => runVitest('integration', ['--project', 'integration']))
  if (kubernetes === null) return results
  if (wanted.has('operator') && (await built('kube-apiserver', kubernetes.apiServer))) {
    // They wait for the cluster most of the time, each file for an API server of its own.
    await check('operator', () => runVitest('operator', ['--project', 'operator', '--maxWorkers=3']))
  }
  if (wanted.has('kubernetes') && (await built('node', kubernetes.node))) {
    await check('kubernetes', () => runVitest('kubernetes', ['--project', 'kubernetes']))
  }
  return results
}

function summary(results: readonly CheckResult[]): string {
  const rows = results.map(({ name, counts, seconds }) => [
    counts.failed === 0 ? 'ok' : 'FAILED',
    name,
    String(counts.passed),
    String(counts.failed),
    String(counts.skipped),
    `${seconds.toFixed(1)} s`,
  ])
  const table = [['', 'check', 'passed', 'failed', 'skipped', 'time'], ...rows]
  const widths = [0, 1, 2, 3, 4, 5].map((column) => Math.max(...table.map((row) => row[column]?.length ?? 0)))
  const lines = table.map((row) =>
    row
      .map((cell, column) => (column < 2 ? cell.padEnd(widths[column] ?? 0) : cell.padStart(widths[column] ?? 0)))
      .join('  ')
      .trimEnd(),
  )
  const failures = results.flatMap((result) =>
    result.failures.map((failure) => `FAILED  ${failure.where}: ${failure.reason}`),
  )
  return [...failures, '', ...lines, ''].join('\n')
}

function parseWanted(args: readonly string[]): Set<Check> {
  const unknown = args.filter((name) => !(CHECKS as readonly string[]).includes(name))
  if (unknown.length > 0) {
    process.stderr.write(`signet: no check named ${unknown.join(', ')}; there are ${CHECKS.join(', ')}\n`)
    process.exit(2)
  }
  return new Set(args.length === 0 ? CHECKS : (args as Check[]))
}

const results = await runChecks(parseWanted(process.argv.slice(2)))
const passed = results.reduce((sum, { counts }) => sum + counts.passed, 0)
const failed = results.reduce((sum, { counts }) => sum + counts.failed, 0)
process.stdout.write(`\n${summary(results)}\n${passed} passed, ${failed} failed\n`)
process.exit(failed === 0 && passed > 0 ? 0 : 1)
