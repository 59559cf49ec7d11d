import { execFile } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { mkdir, writeFile } from 'node:fs/promises'
import path from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { promisify } from 'node:util'
import { afterAll, beforeAll, expect, test, vi } from 'vitest'
import { startEmbeddedPostgres, type EmbeddedPostgres } from '#runtime/postgres/embedded.ts'
import { asAdmin, configure } from '#test/fault/administer.ts'
import { startLedgerStack, type LedgerStack } from '#test/support/ledger.ts'
import { buildLines, createClient } from '#test/support/producer.ts'
import { fsck, newestCheckpoint } from './standby-fsck.ts'
import { baseBackup, own, settle } from './standby-server.ts'

/**
 * Continuous archiving of the wall (https://www.postgresql.org/docs/current/continuous-archiving.html), and restores from it: to the end of
 * the archive, and to a time that lies behind what outsiders were shown.
 */
let stack: LedgerStack
let archive: string
let backup: string
const restored: EmbeddedPostgres[] = []
const session = randomUUID()
let sent = 0
const WAIT = { timeout: 30_000, interval: 50 }

/** What is known from outside about a moment: the time, by the wall's clock, and the log's checkpoint of all links. */
type Moment = { readonly at: string; readonly checkpoint: string; readonly links: number }
let early: Moment
let late: Moment

beforeAll(async () => {
  stack = await startLedgerStack()
  archive = path.join(stack.dir, 'archive')
  backup = path.join(stack.dir, 'backup')
  await mkdir(archive, { mode: 0o711 })
  await own(archive)
  // Never over a segment that is there: two servers that write to one archive would ruin it for both.
  const command = `test ! -f "${archive}/%f" && cp "%p" "${archive}/%f"`
  await configure(stack.wall.adminUrl, { archive_mode: 'on', archive_command: command })
  await stack.wall.server.stop()
  await stack.wall.restart()

  await append(300)
  await baseBackup(stack.wall.server, stack.wall.adminUrl, backup)
  await append(200)
  early = await moment('early')
  await append(200)
  late = await moment('late')
  await archived()
})
afterAll(async () => {
  for (const server of restored) await server.stop()
  await stack.stop()
})

async function append(count: number): Promise<void> {
  const proxy = createClient(stack.ledgers[0]?.url ?? '', stack.token('proxy'))
  // The ledger comes back to a server that was restarted.
  const lines = buildLines(session, sent + 1, count)
  await vi.waitUntil(async () => (await proxy.ingest(lines)).status === 200, WAIT)
  sent += count
}

/** Waits until the tree holds everything, keeps its checkpoint, and leaves a second on both sides for the clock of the recovery target. */
async function moment(name: string): Promise<Moment> {
  const url = stack.ledgers[0]?.url ?? ''
  const { head } = await createClient(url, stack.token('auditor')).verify()
  await vi.waitUntil(async () => (await newestCheckpoint(url)).size === head.seq, WAIT)
  const checkpoint = path.join(stack.dir, `${name}.checkpoint`)
  await writeFile(checkpoint, (await newestCheckpoint(url)).note)
  await sleep(1_000)
  const { rows } = await asAdmin(stack.wall.adminUrl, (client) =>
    client.query<{ at: string }>('SELECT now()::text AS at'),
  )
  await sleep(1_000)
  return { at: rows[0]?.at ?? '', checkpoint, links: head.seq }
}

/** Ends the WAL segment under way, and waits until it is in the archive. */
async function archived(): Promise<void> {
  await asAdmin(stack.wall.adminUrl, async (client) => {
    const { rows } = await client.query<{ segment: string }>('SELECT pg_walfile_name(pg_switch_wal()) AS segment')
    const last = async (): Promise<string> =>
      (await client.query<{ last: string | null }>('SELECT last_archived_wal AS last FROM pg_stat_archiver')).rows[0]
        ?.last ?? ''
    await vi.waitUntil(async () => (await last()) >= (rows[0]?.segment ?? '?'), WAIT)
  })
}

/** A new server from the base backup and the archive, up to a time, or to the end. Resolves once it takes writes. */
async function restore(
  name: string,
  target: Readonly<Record<string, string>>,
): Promise<{ loginUrl: string; adminUrl: string }> {
  const dir = path.join(stack.dir, name)
  const { password } = new URL(stack.wall.adminUrl)
  await copyBackup(dir)
  const settings = {
    restore_command: `cp "${archive}/%f" "%p"`,
    recovery_target_action: 'promote',
    archive_mode: 'off',
  }
  await settle(dir, { ...settings, ...target }, 'recovery')
  const server = await startEmbeddedPostgres({ dataDir: dir, superuserPassword: decodeURIComponent(password) })
  restored.push(server)
  const moved = (url: string): string => Object.assign(new URL(url), { port: String(server.port) }).toString()
  const urls = { loginUrl: moved(stack.wall.loginUrl), adminUrl: moved(stack.wall.adminUrl) }
  const recovering = async (): Promise<boolean> =>
    asAdmin(urls.adminUrl, async (client) => {
      const { rows } = await client.query<{ recovering: boolean }>('SELECT pg_is_in_recovery() AS recovering')
      return rows[0]?.recovering ?? true
    })
  await expect.poll(recovering, { timeout: 30_000 }).toBe(false)
  return urls
}

test('to the end of the archive: everything is there and verifies, up to the newest checkpoint kept outside', async () => {
  const { loginUrl } = await restore('to-the-end', {})
  expect(await fsck(stack, loginUrl, '--checkpoint', late.checkpoint)).toMatchObject({
    code: 0,
    report: { result: 'verified', links: late.links },
  })
})

test('to a time: what was committed by then and no more; it verifies, and whoever kept a later checkpoint finds out', async () => {
  const { loginUrl } = await restore('to-a-time', { recovery_target_time: early.at })
  expect(await fsck(stack, loginUrl, '--checkpoint', early.checkpoint)).toMatchObject({
    code: 0,
    report: { result: 'verified', links: early.links },
  })
  expect(await fsck(stack, loginUrl)).toMatchObject({ code: 3, report: { links: early.links } })
  expect(await fsck(stack, loginUrl, '--checkpoint', early.checkpoint, '--checkpoint', late.checkpoint)).toMatchObject({
    code: 1,
    report: { result: 'invalid', first_bad: { fault: 'rollback' } },
  })

  // A ledger on it goes on from there, and what its producers had recorded in between is a gap by name.
  const ledger = await stack.startLedger({ env: { SIGNET_LEDGER_AUDIT_DB_URL: loginUrl } })
  const proxy = createClient(ledger.url, stack.token('proxy'))
  expect((await proxy.append(buildLines(session, sent + 1, 10))).acks).toHaveLength(10)
  expect(await proxy.verify()).toMatchObject({ ok: true })
  const [gap, ...more] = await proxy.all('&event_type=audit.gap')
  expect(more).toEqual([])
  expect(gap?.event).toMatchObject({ context: { from: 501, to: 700 } })
  await ledger.stop()
})

/** Each restore takes a copy: a backup is used more than once. */
async function copyBackup(to: string): Promise<void> {
  await promisify(execFile)('cp', ['-a', backup, to])
}
