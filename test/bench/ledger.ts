// What one ledger process with PostgreSQL on the same machine does, beside what it should do:
//   node test/bench/ledger.ts [--records 200000] [--seconds 10] [--padding 420] [--pages-only] [--json FILE]
// `--pages-only`: after filling, pages alone, for stores that would take an hour to verify. See docs/performance.md, "Ten million records".
import { execFile } from 'node:child_process'
import { createPrivateKey, randomUUID } from 'node:crypto'
import { cpus, loadavg, tmpdir } from 'node:os'
import { statfs, writeFile } from 'node:fs/promises'
import path from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { parseArgs } from 'node:util'
import pg from 'pg'
import { Agent, request } from 'undici'
import { Integrator } from '#ledger/tree/integrator.ts'
import { createPool } from '#runtime/postgres/transaction.ts'
import { startLedgerStack, type LedgerStack } from '#test/support/ledger.ts'
import { buildEvent, lineOf } from '#test/support/producer.ts'

const TENANTS = 8
const BATCH = 250
/** What a record takes on the disk besides the event's own bytes, and what PostgreSQL keeps of WAL (docs/operations.md, "Sizing"). */
const BYTES_BESIDE = 2_200
const EVENT_BYTES_BESIDE = 535
const WAL_BYTES = 6e9
const QUERIES = 60

type Figure = { readonly figure: string; readonly goal: string; readonly measured: string; readonly value: number }

const { values: flags } = parseArgs({
  options: {
    records: { type: 'string', default: '200000' },
    seconds: { type: 'string', default: '10' },
    // With what else an event holds, 1 KB a line.
    padding: { type: 'string', default: '420' },
    'pages-only': { type: 'boolean', default: false },
    json: { type: 'string' },
  },
})
const records = Number(flags.records)
const seconds = Number(flags.seconds)
const padding = 'x'.repeat(Number(flags.padding))
if (!(records >= 1_000 && seconds >= 1)) throw new Error('--records is 1000 or more, --seconds 1 or more')
await checkDisk()

const identities = Array.from({ length: TENANTS }, (_, index) => ({
  name: `t${index}`,
  tenant: `tenant-${index}`,
  producer_id: 'bench/api',
  scopes: ['audit:write', 'audit:read'],
}))
const agent = new Agent({ connections: 64, pipelining: 1 })
const stack = await startLedgerStack({ identities, ledgers: 0 })
const figures: Figure[] = []
const add = (figure: string, goal: string, value: number, unit: string, digits = 0): void => {
  figures.push({
    figure,
    goal,
    value,
    measured: `${value.toLocaleString('en', { maximumFractionDigits: digits })} ${unit}`,
  })
  process.stderr.write(`${figure}: ${figures.at(-1)?.measured}\n`)
}
try {
  // The background verifier takes its share in production; here each figure is of one thing.
  const ledger = await stack.startLedger({ env: { SIGNET_LEDGER_VERIFY_SHARE: '0' } })
  const all = identities.map(({ name }) => name)
  const many = await ingest(ledger.url, stack, all, { lanes: 2 })
  add(`durable chained ingest, ${TENANTS} tenants`, '≥ 5,000/s', many.perSecond, 'events/s')
  add('acknowledgement p99 as fast as it goes (4,000 events under way)', '-', many.p99, 'ms', 1)
  const paced = await ingest(ledger.url, stack, all, {
    lanes: 1,
    batch: 100,
    perSecond: Math.min(5_000, many.perSecond * 0.7),
  })
  add(
    'acknowledgement p99 at the rate beside',
    '≤ 100 ms',
    paced.p99,
    `ms at ${Math.round(paced.perSecond)} events/s`,
    1,
  )
  add('of it, what the load itself takes of a core', '-', paced.cpuShare * 100, '%')
  const one = await ingest(ledger.url, stack, ['t0'], { lanes: 2 })
  add('durable chained ingest, one tenant', '≥ 2,000/s', one.perSecond, 'events/s')
  add('acknowledgement p99, one tenant, as fast as it goes (500 events under way)', '-', one.p99, 'ms', 1)
  let total = many.events + paced.events + one.events
  while (total < records) total += (await ingest(ledger.url, stack, all, { lanes: 2, atMost: records - total })).events

  for (const [name, query] of await queries(ledger.url, stack)) {
    const p95 = await time(ledger.url, stack, query)
    add(`page of 100 by ${name}, p95, ${total.toLocaleString('en')} records`, '< 100 ms at 1,000,000', p95, 'ms', 1)
  }
  await integrated(stack)
  await ledger.stop()
  if (!flags['pages-only']) {
    const fsck = await runFsck(stack)
    add('full verification (signet fsck), wall-clock', '≥ 100,000/s', fsck.links / fsck.seconds, 'records/s')
    add(
      'full verification, by CPU time of the verifier',
      '≥ 100,000/s on one core',
      fsck.links / fsck.cpu_seconds,
      'records/s',
    )
    add('tree integration', '-', await integrate(stack), 'leaves/s')
  }
} finally {
  await agent.close()
  await stack.stop()
}
const machine = `${cpus().length} × ${cpus()[0]?.model ?? 'unknown'}, Node ${process.versions.node}, load ${loadavg()[0]?.toFixed(1)}`
const width = Math.max(...figures.map(({ figure }) => figure.length))
process.stdout.write(
  `${machine}\n\n| ${'figure'.padEnd(width)} | goal | measured |\n|${'-'.repeat(width + 2)}|---|---|\n`,
)
for (const { figure, goal, measured } of figures)
  process.stdout.write(`| ${figure.padEnd(width)} | ${goal} | ${measured} |\n`)
if (flags.json !== undefined) await writeFile(flags.json, `${JSON.stringify({ machine, records, figures }, null, 2)}\n`)

type Load = { readonly lanes: number; readonly batch?: number; readonly perSecond?: number; readonly atMost?: number }

/**
 * Sends for the time given (or until `atMost` events are acknowledged), `lanes` sessions a tenant, a batch at a time each: as fast as it
 * goes, or at a rate, and then a latency counts from when the batch was due.
 */
async function ingest(url: string, of: LedgerStack, names: readonly string[], load: Load) {
  const { lanes, batch = BATCH, perSecond = Infinity, atMost = Infinity } = load
  const everyMs = (batch * names.length * lanes * 1_000) / perSecond
  const latencies: number[] = []
  let events = 0
  const startedAt = performance.now()
  const startedCpu = process.cpuUsage()
  const endsAt = startedAt + seconds * 1_000
  await Promise.all(
    names.flatMap((name, place) =>
      Array.from({ length: lanes }, async () => {
        const session = randomUUID()
        const headers = { authorization: `Bearer ${of.token(name)}`, 'content-type': 'application/x-ndjson' }
        let due = startedAt + (everyMs * place) / names.length
        for (let sent = 0; performance.now() < endsAt && events < atMost; sent += batch) {
          const body = linesOf(session, sent + 1, batch).join('\n')
          const now = performance.now()
          if (everyMs > 0 && due > now) await sleep(due - now)
          const at = everyMs > 0 ? due : performance.now()
          due += everyMs
          const response = await request(`${url}/api/audit/ingest`, {
            method: 'POST',
            headers,
            body,
            dispatcher: agent,
          })
          const text = await response.body.text()
          if (response.statusCode !== 200) throw new Error(`${response.statusCode}: ${text.slice(0, 500)}`)
          latencies.push(performance.now() - at)
          events += batch
        }
      }),
    ),
  )
  const took = (performance.now() - startedAt) / 1_000
  const { user, system } = process.cpuUsage(startedCpu)
  return {
    events,
    perSecond: events / took,
    p99: quantile(latencies, 0.99),
    cpuShare: (user + system) / 1e6 / took,
  }
}

async function checkDisk(): Promise<void> {
  const needed = records * (BYTES_BESIDE + EVENT_BYTES_BESIDE + padding.length) + WAL_BYTES
  const { bavail, bsize } = await statfs(tmpdir())
  const gigabytes = (bytes: number): string => `${(bytes / 1e9).toFixed(0)} GB`
  if (bavail * bsize < needed)
    throw new Error(
      `${records} records take about ${gigabytes(needed)} of ${tmpdir()}, which has ${gigabytes(bavail * bsize)} (TMPDIR names another place)`,
    )
}

function linesOf(session: string, first: number, batch: number): string[] {
  const trace_id = randomUUID().replaceAll('-', '')
  return Array.from({ length: batch }, (_, index) =>
    lineOf({
      session,
      spool_seq: first + index,
      event: buildEvent({
        // A trace every ten events.
        trace_id:
          trace_id.slice(0, 24) +
          Math.floor(index / 10)
            .toString(16)
            .padStart(8, '0'),
        actor: `user:${(first + index) % 997}`,
        resource: `/reports/${(first + index) % 5_003}`,
        outcome: index % 50 === 0 ? 'denied' : 'allowed',
        context: { padding, word: `w${(first + index) % 1_009}` },
      }),
    }),
  )
}

async function queries(url: string, of: LedgerStack): Promise<[string, () => string][]> {
  const page = (await get(url, of, '?limit=1000')) as { items: { event: { trace_id: string; request_id: string } }[] }
  const some = <T>(items: readonly T[]): T => items[Math.floor(Math.random() * items.length)]!
  return [
    ['nothing (newest)', () => '?limit=100'],
    ['actor', () => `?limit=100&actor=user:${Math.floor(Math.random() * 997)}`],
    ['resource', () => `?limit=100&resource=/reports/${Math.floor(Math.random() * 5_003)}`],
    ['outcome', () => '?limit=100&outcome=denied'],
    ['trace', () => `?limit=100&trace_id=${some(page.items).event.trace_id}`],
    ['request', () => `?limit=100&request_id=${some(page.items).event.request_id}`],
  ]
}

async function time(url: string, of: LedgerStack, query: () => string): Promise<number> {
  const took: number[] = []
  for (let count = 0; count < QUERIES; count++) {
    const at = performance.now()
    await get(url, of, query())
    took.push(performance.now() - at)
  }
  return quantile(took, 0.95)
}

async function get(url: string, of: LedgerStack, query: string): Promise<unknown> {
  const headers = { authorization: `Bearer ${of.token('t0')}` }
  const response = await request(`${url}/api/audit/logs${query}`, { headers, dispatcher: agent })
  const answer = await response.body.json()
  if (response.statusCode !== 200) throw new Error(`${query}: ${response.statusCode} ${JSON.stringify(answer)}`)
  return answer
}

async function withAdmin<T>(of: LedgerStack, work: (admin: pg.Client) => Promise<T>): Promise<T> {
  const admin = new pg.Client(of.wall.adminUrl)
  await admin.connect()
  try {
    return await work(admin)
  } finally {
    await admin.end()
  }
}

function integrated(of: LedgerStack): Promise<void> {
  return withAdmin(of, async (admin) => {
    for (;;) {
      const { rows } = await admin.query<{ waits: boolean }>(
        'SELECT (SELECT count(*) FROM signet.links) > (SELECT coalesce(max(size), 0) FROM signet.tree_checkpoints) AS waits',
      )
      if (rows[0]?.waits !== true) return
      await new Promise((resolve) => setTimeout(resolve, 200))
    }
  })
}

function runFsck(of: LedgerStack): Promise<{ links: number; seconds: number; cpu_seconds: number }> {
  const main = path.join(import.meta.dirname, '../../cli/main.ts')
  const env = {
    PATH: process.env['PATH'],
    SIGNET_LEDGER_AUDIT_DB_URL: of.wall.loginUrl,
    SIGNET_LEDGER_KEYRING: of.keyringFile,
  }
  return new Promise((resolve, reject) => {
    execFile(process.execPath, [main, 'fsck', '--json'], { env, maxBuffer: 1 << 24 }, (_error, stdout, stderr) => {
      try {
        const report = JSON.parse(stdout) as { result: string; links: number; seconds: number; cpu_seconds: number }
        if (report.result === 'invalid') throw new Error(stdout)
        resolve(report)
      } catch (error) {
        reject(new Error(`fsck: ${stderr}`, { cause: error }))
      }
    })
  })
}

/** Takes the tree away and makes it anew: leaves a second of one integrator, and nothing beside it. */
async function integrate(of: LedgerStack): Promise<number> {
  const tables = ['tree_runs', 'tree_tiles', 'tree_checkpoints']
  await withAdmin(of, async (admin) => {
    for (const table of tables)
      await admin.query(`ALTER TABLE signet.${table} DISABLE TRIGGER ALL; DELETE FROM signet.${table}`)
  })
  const ack = of.keyring.keys.find((key) => key.use === 'ack')
  const key = createPrivateKey({ key: Buffer.from(ack?.private_key ?? '', 'base64url'), format: 'der', type: 'pkcs8' })
  const wall = createPool({ url: of.wall.loginUrl, size: 2, applicationName: 'bench' })
  try {
    const integrator = new Integrator({ wall, origin: 'signet-ledger', signingKey: () => key, clock: () => new Date() })
    const startedAt = performance.now()
    let leaves = 0
    for (;;) {
      const round = await integrator.round()
      if (round.outcome !== 'grown') break
      leaves += round.leaves
    }
    return leaves / ((performance.now() - startedAt) / 1_000)
  } finally {
    await wall.end()
  }
}

function quantile(values: readonly number[], q: number): number {
  const sorted = values.toSorted((a, b) => a - b)
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * q))] ?? Number.NaN
}
