import { appendFile, chmod, chown, copyFile, mkdir, readdir, rename, writeFile } from 'node:fs/promises'
import path from 'node:path'
import { expect } from 'vitest'
import { startEmbeddedPostgres, type EmbeddedPostgres } from '#runtime/postgres/embedded.ts'
import { unprivilegedAccount } from '#runtime/postgres/placement.ts'
import { asAdmin } from '#test/fault/administer.ts'

/**
 * Copies of a running server, as an administrator makes them: what `pg_basebackup` does, by SQL and a copy of the files
 * (https://www.postgresql.org/docs/current/continuous-archiving.html#BACKUP-LOWLEVEL-BASE-BACKUP), since that tool is not in the package
 * that the tests run.
 */

/** Not part of a base backup, by that page: what belongs to the running server, and WAL, which comes from the primary or the archive. */
const LEFT_OUT = new Set(['postmaster.pid', 'postmaster.opts', 'backup_label', 'tablespace_map', 'standby.signal'])
const EMPTIED = new Set([
  'pg_wal',
  'pg_replslot',
  'pg_dynshmem',
  'pg_notify',
  'pg_serial',
  'pg_snapshots',
  'pg_stat_tmp',
  'pg_subtrans',
])

/** A base backup of the server below `into`, for `startEmbeddedPostgres({ dataDir: into })`, while the server goes on. */
export async function baseBackup(server: EmbeddedPostgres, adminUrl: string, into: string): Promise<void> {
  const draft = path.join(into, 'data.new')
  await asAdmin(adminUrl, async (client) => {
    // Start and stop have to come in the same session.
    await client.query("SELECT pg_backup_start('test', true)")
    await mkdir(into, { recursive: true, mode: 0o711 })
    await copyFolder(path.join(server.dataDir, 'data'), draft, true)
    const { rows } = await client.query<{ labelfile: string }>('SELECT labelfile FROM pg_backup_stop(false)')
    await writeFile(path.join(draft, 'backup_label'), rows[0]?.labelfile ?? '')
  })
  await own(path.join(draft, 'backup_label'))
  await rename(draft, path.join(into, 'data'))
}

/** Adds settings to a copy before it is started. */
export async function settle(dir: string, settings: Readonly<Record<string, string>>, signal: 'standby' | 'recovery') {
  const data = path.join(dir, 'data')
  const lines = Object.entries(settings).map(([name, value]) => `${name} = '${value.replaceAll("'", "''")}'\n`)
  await appendFile(path.join(data, 'postgresql.auto.conf'), lines.join(''))
  await writeFile(path.join(data, `${signal}.signal`), '')
  await own(path.join(data, `${signal}.signal`))
}

export type Standby = {
  server: EmbeddedPostgres
  readonly adminUrl: string
  readonly loginUrl: string
  /** Resolves when it has replayed all that the primary has written so far. */
  caughtUp(): Promise<void>
  /** Makes it a primary. Resolves when it takes writes. */
  promote(): Promise<void>
}

export type StandbyOptions = {
  readonly dir: string
  /** Its name in `synchronous_standby_names`, and of its replication slot. */
  readonly name: string
  readonly primary: { readonly server: EmbeddedPostgres; readonly adminUrl: string; readonly loginUrl: string }
  /** How it reaches the primary; the primary's own port where absent. */
  readonly port?: number
}

/** A hot standby that streams from the primary, made from a base backup of it. */
export async function startStandby({ dir, name, primary, port }: StandbyOptions): Promise<Standby> {
  await asAdmin(primary.adminUrl, (client) =>
    client.query('SELECT pg_create_physical_replication_slot($1, true)', [name]),
  )
  await baseBackup(primary.server, primary.adminUrl, dir)
  const { username, password } = new URL(primary.adminUrl)
  const conninfo = [
    `host=127.0.0.1 port=${port ?? primary.server.port} user=${username}`,
    `password='${decodeURIComponent(password)}' application_name=${name}`,
    'connect_timeout=3',
  ]
  await settle(dir, { primary_conninfo: conninfo.join(' '), primary_slot_name: name }, 'standby')
  const server = await startEmbeddedPostgres({ dataDir: dir, superuserPassword: decodeURIComponent(password) })
  const moved = (url: string): string => Object.assign(new URL(url), { port: String(server.port) }).toString()
  const [adminUrl, loginUrl] = [moved(primary.adminUrl), moved(primary.loginUrl)]
  const one = async <T>(url: string, sql: string, values: unknown[] = []): Promise<T | undefined> =>
    asAdmin(url, async (client) => Object.values((await client.query(sql, values)).rows[0] ?? {})[0] as T)
  return {
    server,
    adminUrl,
    loginUrl,
    async caughtUp() {
      const want = await one<string>(primary.adminUrl, 'SELECT pg_current_wal_flush_lsn()')
      const behind = 'SELECT pg_last_wal_replay_lsn() >= $1::pg_lsn'
      await expect.poll(() => one<boolean>(adminUrl, behind, [want]), { timeout: 60_000 }).toBe(true)
    },
    async promote() {
      expect(await one<boolean>(adminUrl, 'SELECT pg_promote(true, 60)')).toBe(true)
    },
  }
}

async function copyFolder(from: string, to: string, isRoot: boolean): Promise<void> {
  await mkdir(to, { mode: 0o700 })
  await own(to)
  for (const entry of await readdir(from, { withFileTypes: true })) {
    if (isRoot && LEFT_OUT.has(entry.name)) continue
    const [source, target] = [path.join(from, entry.name), path.join(to, entry.name)]
    if (entry.isDirectory()) {
      if (isRoot && EMPTIED.has(entry.name)) await emptyFolder(target)
      else await copyFolder(source, target, false)
    } else {
      await copyFile(source, target).catch((error: NodeJS.ErrnoException) => {
        // Gone in the meantime: the WAL says what became of it.
        if (error.code !== 'ENOENT') throw error
      })
      await chmod(target, 0o600).then(
        () => own(target),
        () => undefined,
      )
    }
  }
}

async function emptyFolder(dir: string): Promise<void> {
  await mkdir(dir, { mode: 0o700 })
  await own(dir)
}

/** PostgreSQL runs as another account than root. */
export async function own(file: string): Promise<void> {
  const account = await unprivilegedAccount()
  if (account !== null) await chown(file, account.uid, account.gid)
}
