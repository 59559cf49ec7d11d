import { spawn } from 'node:child_process'
import { randomInt } from 'node:crypto'
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { ensureSchemathesis } from '#tools/schemathesis/build.ts'
import type { GovernanceStack } from '#test/support/governance.ts'
import { operationsOf, type OpenApiDocument, type Operation } from '#test/support/openapi.ts'
import { makeTenantRows, type TenantRows } from './tenant-rows.ts'
import { startWholeStack } from './whole-stack.ts'

/**
 * A public fuzzer, schemathesis, against all calls of the OpenAPI document: no server error, no status, media type or answer but those that the
 * document describes, and nothing accepted that it forbids. By default the same requests each time, and half a minute of sequences of calls;
 * `SIGNET_FUZZ_SECONDS` (`npm run test:fuzz`): random ones as well, for as long, by a seed that is printed. `SIGNET_FUZZ_SEED` repeats it.
 */
const SECONDS = Number(process.env['SIGNET_FUZZ_SECONDS'] ?? 0)
const SEED = Number(process.env['SIGNET_FUZZ_SEED'] ?? (SECONDS > 0 ? randomInt(1, 2 ** 31) : 1))
const SEQUENCES_SECONDS = 30
const TIMEOUT_MS = (SECONDS + 1_200) * 1_000

const CHECKS = [
  'not_a_server_error',
  'status_code_conformance',
  'content_type_conformance',
  'response_headers_conformance',
  'response_schema_conformance',
  'negative_data_rejection',
  'use_after_free',
]
/** Where those who ask could shut themselves out; with all of their methods, since it tries those that are not documented as well. */
const SHUTS_OUT = new Set([
  '/api/v1/session',
  '/api/v1/tokens/{id}',
  '/api/v1/role-bindings/{id}',
  '/api/v1/users/{id}',
])

let whole: Awaited<ReturnType<typeof startWholeStack>>
let stack: GovernanceStack
let st: string
let folder: string
let rows: TenantRows
let document: OpenApiDocument
let operations: readonly Operation[]
beforeAll(async () => {
  st = await ensureSchemathesis()
  folder = await mkdtemp(path.join(tmpdir(), 'signet-fuzz-'))
  whole = await startWholeStack()
  stack = whole.stack
  rows = await makeTenantRows(stack, 'acme')
  document = (await stack.call('acme', 'GET', '/openapi.json')).body as OpenApiDocument
  operations = operationsOf(document)
}, 1_200_000)
afterAll(async () => {
  await whole?.stop()
  if (folder !== undefined) await rm(folder, { recursive: true, force: true })
})

/** How what is invalid may be answered: as it would have it anyway, and as too large. */
const REFUSALS = `[checks]
negative_data_rejection.expected-statuses = [400, 401, 403, 404, 405, 406, 409, 413, 415, 422, 428, 429]

`

type Report = {
  readonly exit_code: number
  readonly operations: { readonly selected: number; readonly tested: number; readonly errored: number }
  readonly test_cases: { readonly generated: number; readonly with_failures: number; readonly errored: number }
}
type Run = {
  readonly phases: string
  readonly token: string | null
  readonly only: (operation: Operation) => boolean
  /** The rows that paths name; otherwise it invents ids, or takes those that it was answered. */
  readonly known?: TenantRows
  readonly seconds?: number
  /** Of a call, at most. */
  readonly examples?: number
}

/** One run. What it found, in its own words and with a `curl` that shows it, is in `output`. */
async function fuzz({
  phases,
  token,
  only,
  known,
  seconds,
  examples,
}: Run): Promise<{ report: Report; output: string }> {
  const [report, config, chosen] = ['report.json', 'schemathesis.toml', 'openapi.json'].map((name) =>
    path.join(folder, name),
  ) as [string, string, string]
  await rm(report, { force: true })
  await writeFile(config, REFUSALS + (known === undefined ? '' : namesOf(known)))
  await writeFile(chosen, JSON.stringify(onlyThese(only)))
  const args = ['--config-file', config, 'run', chosen, '--url', stack.process().url, '--checks', CHECKS.join(',')]
  args.push('--phases', phases, '--seed', String(SEED), '--workers', '1', '--no-color', '--continue-on-failure')
  args.push(
    '--generation-database',
    'none',
    '--request-timeout',
    '60',
    '--report',
    'json',
    '--report-json-path',
    report,
  )
  if (seconds !== undefined) args.push('--max-time', String(seconds))
  if (examples !== undefined) args.push('--max-examples', String(examples))
  if (token !== null) args.push('--header', `Authorization: Bearer ${token}`)
  const child = spawn(st, args, { cwd: folder, stdio: ['ignore', 'pipe', 'pipe'] })
  let output = ''
  const keep = (chunk: Buffer): void => {
    output = (output + chunk.toString()).slice(-32 * 1024)
  }
  child.stdout.on('data', keep)
  child.stderr.on('data', keep)
  await new Promise((resolve, reject) => {
    child.once('error', reject)
    child.once('close', resolve)
  })
  const made = await readFile(report, 'utf8').catch((cause: unknown) => {
    throw new Error(`schemathesis ended with ${child.exitCode} and no report:\n${output}`, { cause })
  })
  return { report: JSON.parse(made) as Report, output }
}

function onlyThese(only: Run['only']): OpenApiDocument {
  const wanted = new Set(operations.filter(only).map(({ name }) => name))
  const paths = Object.entries(document.paths).map(([url, methods]) => [
    url,
    Object.fromEntries(Object.entries(methods).filter(([method]) => wanted.has(`${method.toUpperCase()} ${url}`))),
  ])
  return { ...document, paths: Object.fromEntries(paths) as OpenApiDocument['paths'] }
}

/** Its configuration, in which the parameters of each path name what is there. */
function namesOf(known: TenantRows): string {
  const urls = [...new Set(operations.map((operation) => operation.path))].filter((url) => url.includes('{'))
  return urls
    .map((url) => {
      const parameters = Object.entries(known.parametersOf(url)).map(
        ([name, value]) => `"path.${name}" = ${JSON.stringify(value)}`,
      )
      return `[[operations]]\ninclude-path = ${JSON.stringify(url)}\nparameters = { ${parameters.join(', ')} }\n`
    })
    .join('\n')
}

/** Nothing is wrong, all were asked, and those who asked were let in to the end. */
async function expectClean(run: Run, count: number): Promise<void> {
  const { report, output } = await fuzz(run)
  const { generated, with_failures, errored } = report.test_cases
  process.stdout.write(`fuzz: ${generated} requests (${run.phases}, seed ${SEED}), ${with_failures} with a fault\n`)
  expect([report.exit_code, with_failures, errored], `seed ${SEED}\n${output}`).toEqual([0, 0, 0])
  expect(report.operations).toMatchObject({ selected: count, tested: count, errored: 0 })
  expect(generated).toBeGreaterThan(count)
  if (run.token === null) return
  const session = await stack.call('acme', 'GET', '/api/v1/session', undefined, run.token)
  expect(session.status).toBe(200)
}

describe('a fuzzer finds nothing', () => {
  const isSafe = (operation: Operation): boolean => !SHUTS_OUT.has(operation.path)
  const safe = (): number => operations.filter(isSafe).length

  it('as an administrator, in calls on what is there', { timeout: TIMEOUT_MS }, async () => {
    await expectClean({ phases: 'coverage', token: stack.token('acme'), only: isSafe, known: rows }, safe())
  })
  it('as an administrator, in sequences of calls', { timeout: TIMEOUT_MS }, async () => {
    const seconds = SECONDS || SEQUENCES_SECONDS
    const phases = SECONDS > 0 ? 'fuzzing,stateful' : 'stateful'
    const { report, output } = await fuzz({ phases, token: stack.token('acme'), only: isSafe, seconds })
    const { generated, with_failures, errored } = report.test_cases
    process.stdout.write(`fuzz: ${generated} requests (${phases}, seed ${SEED}), ${with_failures} with a fault\n`)
    expect([report.exit_code, with_failures, errored], `seed ${SEED}\n${output}`).toEqual([0, 0, 0])
    expect(generated).toBeGreaterThan(0)
    expect((await stack.call('acme', 'GET', '/api/v1/session')).status).toBe(200)
  })
  it(
    'as an administrator, in calls that could shut them out, on nothing of theirs',
    { timeout: TIMEOUT_MS },
    async () => {
      // Ids that it invents lead nowhere.
      const only = (operation: Operation): boolean => !isSafe(operation) && operation.path !== '/api/v1/session'
      await expectClean({ phases: 'coverage', token: stack.token('acme'), only }, 4)
    },
  )
  it('as nobody', { timeout: TIMEOUT_MS }, async () => {
    await expectClean({ phases: 'fuzzing', token: null, only: () => true, examples: 2 }, operations.length)
  })
})
