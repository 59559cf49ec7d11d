import { mkdir, mkdtemp, rm, statfs, writeFile } from 'node:fs/promises'
import os from 'node:os'
import path from 'node:path'
import { parseArgs } from 'node:util'
import { startBench, type Bench } from './candidates.ts'
import { barChart } from './chart.ts'
import { divideCores, type Cores } from './cores.ts'
import { CONNECTIONS, loadTool } from './load.ts'
import { drained, measure, type Plan } from './measure.ts'
import { SIZES } from './payload.ts'
import { benchmarkPage, conditionLines, goalLines, tables, type Conditions } from './report.ts'

const USAGE = `npm run bench -- [--quick] [--write] [--rounds N] [--seconds N] [--only NAME]...

  --quick      two rounds of one second: a first look, too short to quote
  --rounds N   rounds of each candidate at each size (7)
  --seconds N  length of a round (3)
  --only NAME  only candidates whose name holds NAME, and what they are compared with
  --write      write docs/benchmarks/ (table, chart, numbers)
`
const ROOT = path.join(import.meta.dirname, '../..')
const BENCH_DIRECTORY = path.join(ROOT, '.bench')
const DOCS_DIRECTORY = path.join(ROOT, 'docs/benchmarks')
const TMPFS_MAGIC = 0x01021994

function say(line: string): void {
  process.stderr.write(`bench: ${line}\n`)
}

const { values } = parseArgs({
  options: {
    quick: { type: 'boolean', default: false },
    write: { type: 'boolean', default: false },
    rounds: { type: 'string' },
    seconds: { type: 'string' },
    only: { type: 'string', multiple: true },
    help: { type: 'boolean', default: false },
  },
})
if (values.help) {
  process.stdout.write(USAGE)
  process.exit()
}
const plan: Plan = {
  rounds: Number(values.rounds ?? (values.quick ? 2 : 7)),
  secondsEach: Number(values.seconds ?? (values.quick ? 1 : 3)),
  warmUpSeconds: values.quick ? 5 : 20,
  sizes: SIZES,
}
if (!(plan.rounds >= 1 && plan.secondsEach >= 1)) {
  process.stderr.write(USAGE)
  process.exit(2)
}

const cores = divideCores()
const tool = loadTool()
const dir = await mkdtemp(path.join(os.tmpdir(), 'signet-bench-'))
let bench: Bench | null = null
const end = async (): Promise<void> => {
  await bench?.stop()
  await rm(dir, { recursive: true, force: true })
}
for (const signal of ['SIGINT', 'SIGTERM'] as const) {
  process.once(signal, () => void end().finally(() => process.exit(1)))
}
try {
  bench = await startBench(dir, cores, (what) => say(`starting ${what}`))
  await run(bench)
} finally {
  await end()
}

async function run({ candidates: all, upstream }: Bench): Promise<void> {
  const wanted = values.only ?? []
  const candidates = all.filter(
    ({ name }) => wanted.length === 0 || name.startsWith('@') || wanted.some((part) => name.includes(part)),
  )
  const rows = await measure(candidates, plan, tool, cores, say)
  const reconciled: string[] = []
  for (const candidate of candidates) {
    if (candidate.stamped === null) continue
    await drained(candidate)
    reconciled.push(`${candidate.name}: ${await candidate.reconcile?.()}`)
  }
  const conditions = await conditionsOf(cores, upstream, reconciled)
  process.stdout.write(
    `\n${tables(rows, candidates, false)}\n\n${goalLines(rows).join('\n')}\n\n${conditionLines(conditions).join('\n')}\n`,
  )
  const numbers = `${JSON.stringify({ conditions, rows }, null, 2)}\n`
  await mkdir(BENCH_DIRECTORY, { recursive: true })
  await writeFile(path.join(BENCH_DIRECTORY, `${conditions.date.replaceAll(':', '-')}.json`), numbers)
  if (!values.write) return
  await mkdir(DOCS_DIRECTORY, { recursive: true })
  await writeFile(path.join(DOCS_DIRECTORY, 'latest.json'), numbers)
  await writeFile(path.join(DOCS_DIRECTORY, 'latest.svg'), barChart(rows))
  await writeFile(path.join(DOCS_DIRECTORY, 'README.md'), benchmarkPage(rows, candidates, conditions))
  say('wrote docs/benchmarks/')
}

async function conditionsOf(cores: Cores, upstream: string, reconciled: readonly string[]): Promise<Conditions> {
  const onTmpfs = (await statfs(dir)).type === TMPFS_MAGIC
  return {
    date: new Date().toISOString(),
    machine: `${os.cpus().length} × ${os.cpus()[0]?.model.trim() ?? 'unknown'}, Linux ${os.release()}`,
    node: `Node ${process.version}`,
    client: `${tool}, ${CONNECTIONS} connections, one request at a time on each, 1,000 different paths in turn`,
    upstream: `${upstream}; customer records in JSON of exactly 1,024, 10,240 and 102,400 bytes`,
    pinning:
      cores === null
        ? 'NOT PINNED (one core, or no taskset): the ratios say little'
        : `the measured process on CPU ${cores.measured}; client, upstream and ledger on CPU ${cores.rest}`,
    rounds: `${plan.rounds} of ${plan.secondsEach} s each, all candidates in turn in every round, after ${plan.warmUpSeconds} s of warm-up each; medians; a round in which other processes took more than a tenth of the measured core is repeated, twice at most`,
    audit:
      `on in shadow and enforce: spool on disk, fsync in groups${onTmpfs ? ' (tmpfs: fsync costs nothing here)' : ''}, sent ` +
      'while the load runs to a ledger stub beside the client, which signs acknowledgements that the proxy verifies, and keeps nothing',
    reconciled,
  }
}
