import { spawn, type ChildProcess } from 'node:child_process'
import { randomInt } from 'node:crypto'
import { chown, readFile, rename, rm, writeFile } from 'node:fs/promises'
import { existsSync } from 'node:fs'
import { createServer } from 'node:net'
import path from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { SignetError } from '#core/error/signet-error.ts'
import { placeBinaries, placeDataDir, processesIn, unprivilegedAccount, type Account } from './placement.ts'

export type EmbeddedPostgres = {
  /** Connection string of a database for a role; parts are percent-encoded. */
  url(database: string, user: string, password: string): string
  readonly port: number
  /** Where the data really is: another place than asked for when root's own folders cannot be entered by PostgreSQL. */
  readonly dataDir: string
  /** Fast shutdown (SIGINT): sessions are ended, everything committed is on disk. Resolves when the server is gone. */
  stop(): Promise<void>
  /** Sends a signal to the server process itself; resolves when it and all its children are gone. For crash tests. */
  kill(signal: NodeJS.Signals): Promise<void>
}

export type EmbeddedPostgresOptions = {
  dataDir: string
  /** 0 or absent: any free port below the system's ephemeral ones, so that no outgoing connection takes it while the server is down. */
  port?: number
  /** Of the role `postgres`; used when the data folder is made, and has to stay the same afterwards. */
  superuserPassword: string
  /** `'*'`: every address, IPv4 and IPv6; passwords are then asked for from everywhere. Default: 127.0.0.1 alone. */
  listen?: '127.0.0.1' | '*'
  /** Once it runs it logs to files instead, in `data/log` of the data folder: JSON lines, connections, definitions, all a superuser says. */
  jsonLog?: boolean
  onLog?: (line: string) => void
}

const START_TIMEOUT_MS = 60_000
const STOP_TIMEOUT_MS = 30_000
const LOG_TAIL_CHARS = 8_000
/** Below 32768, where Linux begins with the ports of outgoing connections (ip_local_port_range). */
const CHOSEN_PORTS = [10_000, 32_000] as const
const MAX_TRIES = 100

/** Seven files, one a weekday, each emptied before it is written again. */
const JSON_LOG = [
  'logging_collector=on',
  'log_destination=jsonlog',
  'log_directory=log',
  'log_filename=postgresql-%a.log',
  'log_truncate_on_rotation=on',
  'log_rotation_age=1d',
  'log_rotation_size=0',
  'log_connections=authorization',
  'log_statement=ddl',
  'log_parameter_max_length=0',
  'log_parameter_max_length_on_error=0',
]

/**
 * The server runs under a shell that holds our end of a pipe as stdin: when this process dies, however it dies, the pipe
 * closes and PostgreSQL gets its SIGINT. A process group of its own keeps a Ctrl-C from reaching it before its clients are done.
 */
const SUPERVISOR =
  'exec 3<&0; "$@" 3<&- </dev/null & pid=$!; (cat <&3 >/dev/null 2>&1; kill -INT $pid) 2>/dev/null & exec 3<&-; wait $pid'

/**
 * Starts PostgreSQL from the npm package's binaries (on 127.0.0.1 unless told otherwise), SCRAM passwords only, fsync on; makes the data folder on the
 * first start and keeps it afterwards. As root it runs as `nobody`.
 * @throws SignetError POSTGRES_START_FAILED (no binaries for this platform, folder in use, server's own reason), PORT_IN_USE
 */
export async function startEmbeddedPostgres(options: EmbeddedPostgresOptions): Promise<EmbeddedPostgres> {
  const account = await unprivilegedAccount()
  const native = await placeBinaries(account)
  const root = await placeDataDir(path.resolve(options.dataDir), account)
  const data = path.join(root, 'data')
  const port = await claimPort(options.port ?? 0)

  if (!existsSync(path.join(data, 'PG_VERSION')))
    await initialise(native, root, data, options.superuserPassword, account)
  await awaitFree(data)

  const args = ['-D', data, '-p', String(port), '-h', options.listen ?? '127.0.0.1']
  if (options.listen === '*') args.push('-c', `hba_file=${await writeOpenAccess(root)}`)
  // No socket in the file system: TCP with a password is the only way in, for every user of the machine.
  // A query that names no month locks each partition of `records` with its indexes: seven years of months are some 1,200 locks a query.
  const settings = ['unix_socket_directories=', 'max_connections=60', 'max_locks_per_transaction=512', 'fsync=on']
  for (const setting of settings) {
    args.push('-c', setting)
  }
  if (options.jsonLog === true) for (const setting of JSON_LOG) args.push('-c', setting)
  const child = spawn('/bin/sh', ['-c', SUPERVISOR, 'signet-postgres', path.join(native, 'bin/postgres'), ...args], {
    cwd: root,
    env: { PATH: '/usr/bin:/bin', LC_ALL: 'C' },
    stdio: ['pipe', 'ignore', 'pipe'],
    detached: true,
    ...account,
  })
  await ready(child, port, options.onLog, options.jsonLog === true ? saidReady(data, child) : null)

  const endWithParent = (): void => {
    child.stdin?.destroy()
  }
  process.once('exit', endWithParent)
  child.once('exit', () => process.removeListener('exit', endWithParent))
  const pid = await serverPid(data)

  return {
    url: (database, user, password) =>
      `postgres://${encodeURIComponent(user)}:${encodeURIComponent(password)}@127.0.0.1:${port}/${encodeURIComponent(database)}`,
    port,
    dataDir: root,
    async stop() {
      child.stdin?.destroy()
      if (await gone(data, STOP_TIMEOUT_MS)) return
      process.kill(pid, 'SIGKILL')
      await gone(data, STOP_TIMEOUT_MS)
    },
    async kill(signal) {
      process.kill(pid, signal)
      await gone(data, STOP_TIMEOUT_MS)
      child.stdin?.destroy()
    },
  }
}

/** Who may connect when it listens everywhere: whoever has a password. The file that initdb makes knows the loopback only. */
async function writeOpenAccess(root: string): Promise<string> {
  const file = path.join(root, 'access.conf')
  await writeFile(file, ['0.0.0.0/0', '::/0'].map((from) => `host all all ${from} scram-sha-256\n`).join(''), {
    mode: 0o644,
  })
  return file
}

async function initialise(
  native: string,
  root: string,
  data: string,
  password: string,
  account: Account | null,
): Promise<void> {
  // initdb into a side folder and a rename: a start that is interrupted here leaves nothing half made.
  const draft = `${data}.new`
  const passwordFile = path.join(root, 'password.new')
  await rm(draft, { recursive: true, force: true })
  await writeFile(passwordFile, `${password}\n`, { mode: 0o600 })
  try {
    if (account !== null) await chown(passwordFile, account.uid, account.gid)
    const args = ['-D', draft, '-U', 'postgres', '-A', 'scram-sha-256', '--pwfile', passwordFile, '-E', 'UTF8']
    args.push('--locale-provider=builtin', '--locale=C.UTF-8', '--no-instructions')
    await run(path.join(native, 'bin/initdb'), args, root, account)
    await rename(draft, data)
  } finally {
    await rm(passwordFile, { force: true })
  }
}

function run(file: string, args: string[], cwd: string, account: Account | null): Promise<void> {
  return new Promise((resolve, reject) => {
    const child = spawn(file, args, {
      cwd,
      env: { PATH: '/usr/bin:/bin', LC_ALL: 'C' },
      stdio: ['ignore', 'ignore', 'pipe'],
      ...account,
    })
    let errors = ''
    child.stderr.on('data', (chunk: Buffer) => {
      errors = (errors + chunk.toString()).slice(-LOG_TAIL_CHARS)
    })
    child.once('error', (cause) => reject(startFailed(`${path.basename(file)} did not run: ${cause.message}`, cause)))
    child.once('close', (status) => {
      if (status === 0) resolve()
      else reject(startFailed(`${path.basename(file)} ended with ${status}: ${errors.trim()}`))
    })
  })
}

/** `elsewhere`: resolves when the server is ready, of one that does not say so on stderr. */
function ready(
  child: ChildProcess,
  port: number,
  onLog: ((line: string) => void) | undefined,
  elsewhere: Promise<void> | null,
): Promise<void> {
  return new Promise((resolve, reject) => {
    let tail = ''
    let partial = ''
    const deadline = setTimeout(() => {
      child.stdin?.destroy()
      reject(startFailed(`no answer within ${START_TIMEOUT_MS} ms: ${tail.trim()}`))
    }, START_TIMEOUT_MS)
    const isReady = (): void => {
      clearTimeout(deadline)
      resolve()
    }
    void elsewhere?.then(isReady)
    child.stderr?.on('data', (chunk: Buffer) => {
      const text = chunk.toString()
      tail = (tail + text).slice(-LOG_TAIL_CHARS)
      const lines = (partial + text).split('\n')
      partial = (lines.pop() ?? '').slice(-LOG_TAIL_CHARS)
      for (const line of lines) {
        onLog?.(line)
        // A standby says "read-only connections".
        if (/ready to accept (read-only )?connections/.test(line)) {
          isReady()
        }
      }
    })
    child.stdin?.on('error', () => undefined)
    child.once('error', (cause) => {
      clearTimeout(deadline)
      reject(startFailed(cause.message, cause))
    })
    child.once('exit', (status) => {
      clearTimeout(deadline)
      child.stdin?.destroy()
      const inUse = tail.includes('could not bind') || tail.includes('Address already in use')
      reject(inUse ? portInUse(port) : startFailed(`the server ended with ${status}: ${tail.trim()}`))
    })
  })
}

/** A server with a log of its own says "ready" in the eighth line of its PID file (`src/include/utils/pidfile.h`). */
async function saidReady(data: string, child: ChildProcess): Promise<void> {
  while (child.exitCode === null && child.signalCode === null) {
    const lines = (await readFile(path.join(data, 'postmaster.pid'), 'utf8').catch(() => '')).split('\n')
    if (/^(ready|standby)\s*$/.test(lines[7] ?? '')) return
    await sleep(25)
  }
  // What it ended with, `ready` says.
  await new Promise(() => undefined)
}

/** The port to use. Asked for and taken: PORT_IN_USE, before anything is written. */
async function claimPort(asked: number): Promise<number> {
  if (asked !== 0) {
    if (await isFree(asked)) return asked
    throw portInUse(asked)
  }
  for (let tries = 0; ; tries++) {
    const port = randomInt(...CHOSEN_PORTS)
    if (await isFree(port)) return port
    if (tries === MAX_TRIES) throw portInUse(port)
  }
}

function isFree(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const probe = createServer()
    probe.once('error', () => resolve(false))
    probe.listen(port, '127.0.0.1', () => probe.close(() => resolve(true)))
  })
}

/**
 * Waits until no server runs on the folder (one whose parent just died may still be on its way out). PostgreSQL clears a stale
 * `postmaster.pid` itself unless its number now belongs to another process of the same user; then we do, and only when no
 * process has the folder as its working directory, as every PostgreSQL process does.
 */
async function awaitFree(data: string): Promise<void> {
  if (!(await gone(data, 15_000))) {
    throw startFailed(`another PostgreSQL is running on ${data}; stop it first`)
  }
  await rm(path.join(data, 'postmaster.pid'), { force: true })
}

async function serverPid(data: string): Promise<number> {
  const text = await readFile(path.join(data, 'postmaster.pid'), 'utf8')
  return Number.parseInt(text, 10)
}

/** True once no process works in the folder. */
async function gone(data: string, timeoutMs: number): Promise<boolean> {
  for (const deadline = Date.now() + timeoutMs; ;) {
    if ((await processesIn(data)).length === 0) return true
    if (Date.now() >= deadline) return false
    await sleep(25)
  }
}

function startFailed(reason: string, cause?: unknown): SignetError {
  return new SignetError('POSTGRES_START_FAILED', `embedded PostgreSQL: ${reason}`, { cause })
}

function portInUse(port: number): SignetError {
  return new SignetError(
    'PORT_IN_USE',
    `embedded PostgreSQL: port ${port} on 127.0.0.1 is in use; choose another or free it`,
  )
}
