import { access, constants } from 'node:fs/promises'
import { delimiter, join } from 'node:path'
import { parseArgs } from 'node:util'
import { judgeSamples, type Verdict } from '../rules/judge.ts'
import { loadRules } from '../rules/load.ts'
import { UsageError } from '../usage.ts'

export const RULES_HELP = `signet rules test [DIR|FILE]...   compiles ComplianceRules and judges their samples, without a cluster

  Looks in DIR (the current folder) for *.yaml with objects of kind ComplianceRule, and for *.samples.yaml:

    samples:
      - title: A page of contacts passes
        rule: no-bulk-contacts            # left out: the one rule in the file of the same name
        input: {response: {facts: {email: {count: 20}}}}
        want: allow                       # allow, violations or undecidable

  --opa FILE     the OPA binary (else SIGNET_OPA, else opa of PATH)
  --json         the results as JSON
  --timeout S    seconds for everything (120)

exit codes: 0 every sample is judged as wanted; 1 one is not, or a rule does not compile; 2 usage, or something could not be read
`

const OPTIONS = {
  opa: { type: 'string' },
  json: { type: 'boolean' },
  timeout: { type: 'string' },
} as const

/** Gives the exit code. @throws UsageError; OPA_UNAVAILABLE; a TypeError of parseArgs for an unknown flag */
export async function rules(args: string[], env: Readonly<Record<string, string | undefined>>): Promise<number> {
  const { values: flags, positionals } = parseArgs({ args, options: OPTIONS, allowPositionals: true })
  const [command, ...paths] = positionals
  if (command !== 'test') throw new UsageError(`there is no command rules ${command ?? ''}`.trim(), RULES_HELP)
  const seconds = Number(flags.timeout ?? '120')
  if (!Number.isInteger(seconds) || seconds < 1 || seconds > 3600) {
    throw new UsageError('--timeout is a whole number of seconds, 1 to 3600')
  }
  const loaded = await loadRules(paths.length === 0 ? ['.'] : paths)
  if (loaded.rules.length === 0) {
    throw new UsageError(`no ComplianceRule in ${paths.length === 0 ? 'this folder' : paths.join(', ')}`)
  }
  const opa = await findOpa(flags.opa ?? env['SIGNET_OPA'], env['PATH'])
  const { verdicts, problems } = await judgeSamples(loaded.rules, loaded.samples, { opa, timeoutMs: seconds * 1000 })
  const failed = verdicts.filter((verdict) => !isFine(verdict))
  const faults = [...problems].flatMap(([rule, found]) => {
    const { file } = loaded.rules.find((each) => each.rule.name === rule)!
    return found.map(({ line, column, message }) => ({ rule, file, line, column, message }))
  })
  if (flags.json === true) {
    process.stdout.write(
      `${JSON.stringify({ passed: failed.length === 0, results: verdicts, problems: faults }, null, 2)}\n`,
    )
  } else {
    for (const { rule, file, line, column, message } of faults) {
      process.stdout.write(`${file}: ${rule} ${line}:${column}: ${message}\n`)
    }
    process.stdout.write(`${faults.length > 0 ? '\n' : ''}${tableOf(verdicts)}\n${summary(verdicts, failed.length)}\n`)
  }
  return failed.length === 0 ? 0 : 1
}

function isFine({ want, got }: Verdict): boolean {
  return want === got
}

function tableOf(verdicts: readonly Verdict[]): string {
  const rows = verdicts.map((verdict) => {
    const { rule, title, want, got, reason } = verdict
    const state = want === null && got === null ? '-' : isFine(verdict) ? 'ok' : 'FAIL'
    return [state, rule, title, want ?? '-', got ?? '-', reason]
  })
  const head = ['', 'RULE', 'SAMPLE', 'WANT', 'GOT', 'WHY']
  const all = [head, ...rows].map((row) => row.map((cell) => printable(cell)))
  const widths = head.map((_, column) => Math.max(...all.map((row) => Array.from(row[column] as string).length)))
  return all
    .map((row) => row.map((cell, i) => cell + ' '.repeat((widths[i] as number) - Array.from(cell).length)).join('  '))
    .map((line) => line.trimEnd())
    .join('\n')
}

function summary(verdicts: readonly Verdict[], failed: number): string {
  const samples = verdicts.filter(({ want }) => want !== null).length
  const bare = verdicts.filter(({ want }) => want === null).length
  const counted = `${samples} ${samples === 1 ? 'sample' : 'samples'}, ${failed} failed`
  return `\n${counted}${bare > 0 ? `; ${bare} ${bare === 1 ? 'rule has' : 'rules have'} none` : ''}`
}

/** Titles and reasons come from files: nothing in them reaches the terminal as a command. */
function printable(text: string): string {
  return text.replace(/\p{Cc}+/gu, ' ')
}

async function findOpa(given: string | undefined, path: string | undefined): Promise<string> {
  const candidates = given === undefined ? (path ?? '').split(delimiter).map((folder) => join(folder, 'opa')) : [given]
  for (const candidate of candidates) {
    const isThere = await access(candidate, constants.X_OK).then(
      () => true,
      () => false,
    )
    if (isThere) return candidate
  }
  throw new UsageError(
    given === undefined
      ? 'OPA is not in PATH; name the binary with --opa or SIGNET_OPA (https://www.openpolicyagent.org/docs/#1-download-opa)'
      : `${given} is no program`,
  )
}
