import { readFile } from 'node:fs/promises'
import { parseArgs } from 'node:util'
import { setFlagsFromString } from 'node:v8'
import type { KeyObject } from 'node:crypto'
import { SignetError } from '#core/error/signet-error.ts'
import { traceMark } from '#core/chain/mark.ts'
import { indexKeyring, parseKeyring, type Keyring } from '#core/keyring/keyring.ts'
import type { TreeHead } from '#core/tree/checkpoint.ts'
import { claimedOrigin, logVerifier, openLogCheckpoint, type LogKeys } from '#core/tree/log-key.ts'
import { ArchivedCheckpoints } from '#runtime/archive/checkpoints.ts'
import { createPool } from '#runtime/postgres/transaction.ts'
import { verifyStore, type FsckProgress } from '#runtime/wall/fsck.ts'
import { snapshotReader } from '#runtime/wall/reader.ts'
import type { ChainKeys } from '#runtime/wall/verify-chain.ts'
import { findState } from '../state.ts'
import { EXIT, UsageError } from '../usage.ts'
import { archiveStore } from './archive.ts'
import { formatReport, plain, reportOf, type Archived, type Report } from './fsck-report.ts'

export const FSCK_HELP = `signet fsck [options]

Verifies a whole audit wall straight from its database, without the ledger, from the bytes: every record, link, stamp and column of
every tenant, then the tree over all of them with its checkpoints. It reads one snapshot and changes nothing.

  SIGNET_LEDGER_AUDIT_DB_URL   the wall, as a login that may SELECT (signet_ledger, or a reader of a copy)
  --keyring FILE       the ledger's keyring (else SIGNET_LEDGER_KEYRING, else the one beside npm start): chain keys, and the public
                       ack keys that sign checkpoints
  --checkpoint FILE    a checkpoint kept outside of the database (GET /log/checkpoint), which the tree must contain; repeatable.
                       Without one, a store that was set back to an earlier state does not show
  --archive            the checkpoints that the archive holds, too: all where they are a thousand or fewer, else the newest and 256 spread
                       over the others (SIGNET_ARCHIVE_BUCKET, …, AWS_… as for signet archive)
  --json               the report as JSON

exit codes: 0 verified, up to a checkpoint from outside; 1 a fault: the first bad record of each chain is named
            2 usage, or something could not be read; 3 no fault found, but no checkpoint to compare with, or the archive was not read
`

/** Traces whose last link is kept in memory: 300 MB at most. */
const MAX_TRACES = 2_000_000
const STATEMENT_TIMEOUT_MS = 30 * 60_000
const EXIT_OF = { verified: EXIT.verified, 'not-fully-checked': EXIT.unchecked, invalid: EXIT.invalid } as const

/** Gives the exit code. @throws UsageError */
export async function fsck(args: string[], env: Readonly<Record<string, string | undefined>>): Promise<number> {
  const { values, positionals } = parseArgs({
    args,
    allowPositionals: true,
    options: {
      keyring: { type: 'string' },
      checkpoint: { type: 'string', multiple: true, default: [] },
      archive: { type: 'boolean', default: false },
      json: { type: 'boolean', default: false },
    },
  })
  if (positionals.length > 0) throw new UsageError(`what is ${positionals[0]} for?`, FSCK_HELP)
  const url = env['SIGNET_LEDGER_AUDIT_DB_URL']
  if (url === undefined || !/^postgres(ql)?:\/\//.test(url))
    throw new UsageError('SIGNET_LEDGER_AUDIT_DB_URL must name the wall: postgres://USER:PASSWORD@HOST:PORT/DATABASE')
  const file = values.keyring ?? env['SIGNET_LEDGER_KEYRING'] ?? findState(env, process.cwd())?.ledgerKeyring
  if (file === undefined) throw new UsageError('no keyring: name that of the ledger with --keyring FILE')
  const keys = await loadKeys(file)
  const external = await Promise.all(values.checkpoint.map((name) => loadCheckpoint(name, keys.logKeys)))
  // Before the wall is read: what is archived while it is would seem to be missing there.
  const archived = values.archive ? await readArchived(env, keys, external[0]?.origin ?? null) : null
  const report = await verify(url, keys, external, archived)
  process.stdout.write(values.json ? `${JSON.stringify(report, null, 2)}\n` : formatReport(report))
  return EXIT_OF[report.result]
}

type Keys = { readonly chainKeys: ChainKeys; readonly logKeys: LogKeys }

/** That the archive cannot be read is said, and keeps nothing else from being verified. @throws UsageError where it is not named */
async function readArchived(
  env: Readonly<Record<string, string | undefined>>,
  { logKeys }: Keys,
  origin: string | null,
): Promise<Archived> {
  const store = archiveStore(env)
  try {
    return await new ArchivedCheckpoints({ store, publicKeys: () => logKeys, origin, clock: () => new Date() }).read()
  } catch (error) {
    if (!(error instanceof SignetError)) throw error
    return { fault: error.message }
  } finally {
    store.close()
  }
}

async function verify(url: string, keys: Keys, given: readonly TreeHead[], archived: Archived | null): Promise<Report> {
  // Each read of a socket is a new buffer, and V8 starts a full collection every 8 MB of them: a third of all CPU time, for a heap of 15 MB.
  setFlagsFromString('--heap-growing-percent=400')
  const external = [...given, ...(archived === null || 'fault' in archived ? [] : archived.heads)]
  const startedAt = performance.now()
  const startedCpu = process.cpuUsage()
  const stopping = new AbortController()
  const stop = (): void => stopping.abort(new UsageError('interrupted'))
  process.once('SIGINT', stop)
  const progress = showProgress(process.stderr)
  const pool = createPool({ url, size: 1, applicationName: 'signet-fsck', statementTimeoutMs: STATEMENT_TIMEOUT_MS })
  try {
    const client = await pool.connect()
    try {
      await client.query('BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY')
      const found = await verifyStore(snapshotReader(client), {
        ...keys,
        origin: external[0]?.origin ?? null,
        external,
        maxTraces: MAX_TRACES,
        signal: stopping.signal,
        onProgress: (now) => progress.show(now),
      })
      const { user, system } = process.cpuUsage(startedCpu)
      return reportOf(
        found,
        { given, external, archived },
        {
          seconds: Number(((performance.now() - startedAt) / 1_000).toFixed(3)),
          cpu_seconds: Number(((user + system) / 1e6).toFixed(3)),
        },
      )
    } finally {
      client.release(true)
    }
  } catch (error) {
    if (error instanceof UsageError || !(error instanceof Error)) throw error
    throw new UsageError(`the wall cannot be read: ${error.message}`)
  } finally {
    progress.end()
    process.removeListener('SIGINT', stop)
    await pool.end()
  }
}

async function loadKeys(file: string): Promise<Keys> {
  let keyring: Keyring
  try {
    keyring = parseKeyring(await readText(file, 'keyring'))
  } catch (error) {
    if (error instanceof SignetError) throw new UsageError(`the keyring ${file} cannot be used: ${error.message}`)
    throw error
  }
  const index = indexKeyring(keyring)
  const [first] = keyring.keys
    .filter(({ use }) => use === 'chain')
    .toSorted((a, b) => (a.not_before < b.not_before ? -1 : 1))
  const marking = first === undefined ? undefined : index.chainKey(first.key_id)?.secret
  if (marking === undefined)
    throw new UsageError(`the keyring ${file} has no chain key: a wall is verified with the ledger's own keyring`)
  const logKeys = keyring.keys.flatMap((key): KeyObject[] =>
    key.use === 'ack' ? [index.ackKey(key.key_id)?.publicKey].filter((found) => found !== undefined) : [],
  )
  if (logKeys.length === 0) throw new UsageError(`the keyring ${file} has no ack key to check checkpoints with`)
  const mark = (tenant: string, traceId: string): Buffer => traceMark(marking, tenant, traceId)
  return { chainKeys: { chainKey: (keyId) => index.chainKey(keyId), traceMark: mark }, logKeys }
}

async function loadCheckpoint(file: string, logKeys: LogKeys): Promise<TreeHead> {
  const note = await readText(file, 'checkpoint')
  try {
    const origin = claimedOrigin(note)
    return openLogCheckpoint(
      note,
      logKeys.map((key) => logVerifier(origin, key)),
    )
  } catch (error) {
    if (error instanceof SignetError) throw new UsageError(`the checkpoint ${file} cannot be used: ${error.message}`)
    throw error
  }
}

async function readText(file: string, what: string): Promise<string> {
  try {
    return await readFile(file, 'utf8')
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException
    throw new UsageError(`cannot read the ${what} ${file}: ${code === 'ENOENT' ? 'there is no such file' : message}`)
  }
}

const PROGRESS_EVERY_MS = { terminal: 200, log: 5_000 }

/** A line that is written over on a terminal, a line now and then elsewhere. On standard error: the report goes elsewhere. */
function showProgress(stream: NodeJS.WriteStream): { show(progress: FsckProgress): void; end(): void } {
  const everyMs = stream.isTTY ? PROGRESS_EVERY_MS.terminal : PROGRESS_EVERY_MS.log
  let shownAt = performance.now()
  return {
    show({ what, tenant, done, of }) {
      const now = performance.now()
      if (now - shownAt < everyMs) return
      shownAt = now
      const whose = tenant === null ? 'tree' : `${what} of ${plain(tenant)}`
      const line = `fsck: ${whose}: ${done}${of === null ? '' : ` of ${of}`}`
      stream.write(stream.isTTY ? `\r\u001b[K${line}` : `${line}\n`)
    },
    end() {
      if (stream.isTTY) stream.write('\r\u001b[K')
    },
  }
}
