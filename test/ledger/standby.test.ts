import { randomUUID } from 'node:crypto'
import { readFile, writeFile } from 'node:fs/promises'
import path from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { pino } from 'pino'
import { Registry } from 'prom-client'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { canonicalize } from '#core/canonical/jcs.ts'
import { indexKeyring } from '#core/keyring/keyring.ts'
import { openJournal, type AuditJournal } from '#proxy/audit/journal.ts'
import { createLedgerClient } from '#proxy/audit/ledger-client.ts'
import { startEmbeddedPostgres } from '#runtime/postgres/embedded.ts'
import { asAdmin, configure } from '#test/fault/administer.ts'
import { reconcile, startLoad } from '#test/fault/load.ts'
import { startTcpRelay, type TcpRelay } from '#test/fault/tcp-relay.ts'
import { startLedgerStack, type LedgerProcess, type LedgerStack } from '#test/support/ledger.ts'
import { buildEvent, buildLines, createClient } from '#test/support/producer.ts'
import { fsck, newestCheckpoint } from './standby-fsck.ts'
import { startStandby, type Standby } from './standby-server.ts'

/**
 * Streaming replication of the wall, and what a failover costs. The ledger reaches whatever is the primary through one address, as it
 * does in production (a Service, a virtual address, a proxy), here a relay of the test. First synchronous, then asynchronous.
 */
let stack: LedgerStack
let address: TcpRelay
let replication: TcpRelay
let ledger: LedgerProcess
let first: Standby
let second: Standby

beforeAll(async () => {
  stack = await startLedgerStack({ ledgers: 0 })
  address = await startTcpRelay(stack.wall.adminUrl)
  ledger = await stack.startLedger({ env: { SIGNET_LEDGER_AUDIT_DB_URL: address.through(stack.wall.loginUrl) } })
  first = await startStandby({ dir: path.join(stack.dir, 'first'), name: 'standby_1', primary: stack.wall })
})
afterAll(async () => {
  await second?.server.stop()
  await first?.server.stop()
  await replication?.close()
  await address?.close()
  await stack?.stop()
})

/** What moving a virtual address, or a Service, does. */
function failOver(to: Standby): void {
  address.target = { host: '127.0.0.1', port: to.server.port }
  address.reset()
}

async function ready(want: number): Promise<void> {
  await expect.poll(async () => (await fetch(`${ledger.url}/readyz`)).status, { timeout: 30_000 }).toBe(want)
}

/** Keeps the log's newest checkpoint outside of the database, and says of how many leaves. */
async function keepCheckpoint(name: string): Promise<{ file: string; size: number }> {
  const { note, size } = await newestCheckpoint(ledger.url)
  const file = path.join(stack.dir, name)
  await writeFile(file, note)
  return { file, size }
}

describe('a synchronous standby (remote_apply)', () => {
  beforeAll(async () => {
    await configure(stack.wall.adminUrl, { synchronous_standby_names: 'standby_1', synchronous_commit: 'remote_apply' })
  })

  test('holds every event before it is acknowledged; while it is away nothing is acknowledged', async () => {
    const proxy = createClient(ledger.url, stack.token('proxy'))
    const ack = await proxy.append(buildLines(randomUUID(), 1, 10))
    const seen = await asAdmin(first.adminUrl, (client) =>
      client.query<{ found: number }>('SELECT count(*)::int AS found FROM signet.links WHERE event_id = ANY($1)', [
        ack.acks.map(({ event_id }) => event_id),
      ]),
    )
    expect(seen.rows).toEqual([{ found: 10 }])
    // A standby is where the whole of it can be verified without a load on the primary.
    expect(await fsck(stack, first.loginUrl)).toMatchObject({ code: 3, report: { result: 'not-fully-checked' } })

    await first.server.stop()
    let settled = false
    const waiting = proxy.append(buildLines(randomUUID(), 1, 10)).finally(() => {
      settled = true
    })
    await sleep(2_000)
    expect(settled).toBe(false)
    first = { ...first, server: await restarted(first) }
    expect((await waiting).acks).toHaveLength(10)
  })

  test('refuses to be written to: a ledger that is pointed at it too early waits', async () => {
    failOver(first)
    const proxy = createClient(ledger.url, stack.token('proxy'))
    const refused = await proxy.ingest(buildLines(randomUUID(), 1, 1))
    expect(refused.status).toBe(503)
    expect(await refused.json()).toMatchObject({ code: 'DATABASE_UNAVAILABLE' })
    address.target = { host: '127.0.0.1', port: stack.wall.server.port }
    address.reset()
    const lines = buildLines(randomUUID(), 1, 1)
    await expect.poll(async () => (await proxy.ingest(lines)).status, { timeout: 30_000 }).toBe(200)
  })

  test('a wait that somebody cancels is no acknowledgement, although the server calls it committed', async () => {
    await first.server.stop()
    const proxy = createClient(ledger.url, stack.token('proxy'))
    const lines = buildLines(randomUUID(), 1, 10)
    const waiting = proxy.ingest(lines)
    await expect.poll(() => waitingForStandby(), { timeout: 10_000 }).toBeGreaterThan(0)
    await asAdmin(stack.wall.adminUrl, (client) =>
      client.query("SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE wait_event = 'SyncRep'"),
    )
    expect((await waiting).status).toBe(503)
    first = { ...first, server: await restarted(first) }
    await expect.poll(async () => (await proxy.ingest(lines)).status, { timeout: 30_000 }).toBe(200)
  })

  test('an event that is on the primary alone is not acknowledged when its producer sends it again', async () => {
    await first.server.stop()
    const proxy = createClient(ledger.url, stack.token('proxy'))
    const lines = buildLines(randomUUID(), 1, 10)
    const unheard = proxy.ingest(lines).catch(() => null)
    await expect.poll(() => waitingForStandby(), { timeout: 10_000 }).toBeGreaterThan(0)
    // After its recovery the event is there for everybody to see, and nobody waits for the standby any more.
    await stack.wall.server.kill('SIGKILL')
    await stack.wall.restart()
    expect((await unheard)?.status).toBe(503)
    let settled = false
    const again = expect
      .poll(async () => (await proxy.ingest(lines)).status, { timeout: 30_000 })
      .toBe(200)
      .finally(() => {
        settled = true
      })
    await sleep(2_000)
    expect(settled).toBe(false)
    first = { ...first, server: await restarted(first) }
    await again
  })

  function waitingForStandby(): Promise<number> {
    const sql = "SELECT count(*)::int AS waiting FROM pg_stat_activity WHERE wait_event = 'SyncRep'"
    return asAdmin(
      stack.wall.adminUrl,
      async (client) => (await client.query<{ waiting: number }>(sql)).rows[0]?.waiting ?? 0,
    )
  }

  test('promoted when the primary is killed under load: no acknowledged event is lost, and it verifies', async () => {
    const load = startLoad(stack, { urls: () => [ledger.url], names: ['proxy', 'second', 'globex-proxy'] })
    await expect.poll(() => load.total(), { timeout: 60_000 }).toBeGreaterThan(1_000)
    await stack.wall.server.kill('SIGKILL')
    const { file } = await keepLastSeen()
    await first.promote()
    failOver(first)
    const before = load.total()
    await expect.poll(() => load.total(), { timeout: 60_000 }).toBeGreaterThan(before + 1_000)
    await load.stop()
    await reconcile(stack, load, { url: ledger.url, readers: ['auditor', 'globex-proxy'] })
    await expect
      .poll(() => fsck(stack, first.loginUrl, '--checkpoint', file), { timeout: 30_000 })
      .toMatchObject({
        code: 0,
        report: { result: 'verified' },
      })
    expect(ledger.output()).not.toContain('was set back')
    expect(ledger.child.exitCode).toBeNull()
  })

  /** The newest checkpoint that outsiders could have: the tiles and checkpoints come from the database, so that it is read from there. */
  async function keepLastSeen(): Promise<{ file: string }> {
    const { rows } = await asAdmin(first.adminUrl, (client) =>
      client.query<{ note: string }>('SELECT note FROM signet.tree_checkpoints ORDER BY size DESC LIMIT 1'),
    )
    const file = path.join(stack.dir, 'first.checkpoint')
    await writeFile(file, rows[0]?.note ?? '')
    return { file }
  }
})

async function restarted(standby: Standby): Promise<Standby['server']> {
  const { dataDir, port } = standby.server
  const superuserPassword = decodeURIComponent(new URL(standby.adminUrl).password)
  return startEmbeddedPostgres({ dataDir, port, superuserPassword })
}

describe('an asynchronous standby that was behind', () => {
  let journal: AuditJournal
  let client: ReturnType<typeof createLedgerClient>
  const metrics = new Registry()
  const spoolDir = (): string => path.join(stack.dir, 'spool')
  const counted = async (name: string): Promise<number> =>
    (await metrics.getSingleMetric(name)?.get())?.values[0]?.value ?? 0
  const append = (count: number): void => {
    for (let index = 0; index < count; index++) journal.append(canonicalize(buildEvent({ tenant: 'acme' })), null)
  }
  const acked = (count: number): Promise<void> =>
    expect.poll(() => counted('signet_audit_acked'), { timeout: 60_000 }).toBe(count)

  beforeAll(async () => {
    await configure(first.adminUrl, { synchronous_standby_names: '', synchronous_commit: 'on' })
    replication = await startTcpRelay(first.adminUrl)
    second = await startStandby({
      dir: path.join(stack.dir, 'second'),
      name: 'standby_2',
      primary: first,
      port: replication.port,
    })
    client = createLedgerClient({ url: ledger.url, token: stack.token('proxy') })
    journal = await openJournal({
      spool: { dir: spoolDir() },
      client,
      keyring: indexKeyring(stack.keyring),
      logger: pino({ level: 'silent' }),
      metrics,
      clock: () => new Date(),
      newId: randomUUID,
      software: 'signet-proxy/test',
      sender: { backoff: { baseMs: 50, maxMs: 500 } },
    })
  })
  afterAll(async () => {
    await journal?.close(5_000)
    await client?.close()
  })

  test('has lost acknowledged events when it is promoted: proxies, the ledger and a kept checkpoint all find it out', async () => {
    append(200)
    await acked(200)
    await second.caughtUp()
    const early = await keepCheckpointOfAll('early.checkpoint')
    replication.mode = 'blackhole'
    append(150)
    await acked(350)
    const late = await keepCheckpointOfAll('late.checkpoint')
    expect(late.size).toBeGreaterThan(early.size)

    await first.server.kill('SIGKILL')
    await second.promote()
    failOver(second)
    await ready(200)
    // What stands is sound: only who kept something from outside can know.
    expect(await fsck(stack, second.loginUrl)).toMatchObject({ code: 3, report: { result: 'not-fully-checked' } })
    expect(await fsck(stack, second.loginUrl, '--checkpoint', early.file)).toMatchObject({ code: 0 })
    expect(await fsck(stack, second.loginUrl, '--checkpoint', late.file)).toMatchObject({
      code: 1,
      report: { result: 'invalid', first_bad: { fault: 'rollback' } },
    })

    // The ledger does not sign a tree that contradicts what it signed.
    await expect
      .poll(async () => (await fetch(`${ledger.url}/metrics`)).text(), { timeout: 30_000 })
      .toMatch(/signet_ledger_tree_failures_total\{code="CHAIN_BROKEN"\} [1-9]/)
    expect(ledger.output()).toContain('it was set back')

    // The proxy is a witness: it says so, keeps both signed answers, and goes on recording.
    append(50)
    await acked(400)
    expect(journal.consistent).toBe(false)
    const [line = ''] = (await readFile(path.join(spoolDir(), 'contradictions.ndjson'), 'utf8')).split('\n')
    expect(JSON.parse(line)).toMatchObject({ kind: expect.stringMatching(/^(set-back|forked)$/) })
  })

  test('what was lost is named: a gap in the session of its producer, in the chain for good', async () => {
    const auditor = createClient(ledger.url, stack.token('auditor'))
    const gaps = await auditor.all('&event_type=audit.gap')
    expect(gaps).toHaveLength(1)
    expect(gaps[0]?.event).toMatchObject({ context: { from: 201, to: 350 } })
    expect(await auditor.verify()).toMatchObject({ ok: true })
  })

  test('once it is decided to go on, a restarted ledger signs the tree on; who kept the later checkpoint will always know', async () => {
    const { port } = ledger
    await ledger.stop()
    const env = { SIGNET_LEDGER_AUDIT_DB_URL: address.through(second.loginUrl) }
    ledger = await stack.startLedger({ port, env })
    const now = await keepCheckpointOfAll('now.checkpoint')
    expect(await fsck(stack, second.loginUrl, '--checkpoint', now.file)).toMatchObject({ code: 0 })
    const late = path.join(stack.dir, 'late.checkpoint')
    const { code, report } = await fsck(stack, second.loginUrl, '--checkpoint', late)
    expect({ code, fault: report.first_bad?.fault }).toEqual({
      code: 1,
      fault: expect.stringMatching(/^(rollback|fork)$/),
    })
  })

  /** Once the tree holds every link. */
  async function keepCheckpointOfAll(name: string): Promise<{ file: string; size: number }> {
    const links = async (): Promise<number> => {
      const heads = await Promise.all(
        ['auditor', 'globex-proxy'].map((reader) => createClient(ledger.url, stack.token(reader)).verify()),
      )
      return heads.reduce((sum, { head }) => sum + head.seq, 0)
    }
    const want = await links()
    let kept = { file: '', size: -1 }
    await expect
      .poll(async () => (kept = await keepCheckpoint(name)).size, { timeout: 30_000, interval: 200 })
      .toBeGreaterThanOrEqual(want)
    return kept
  }
})
