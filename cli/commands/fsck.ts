import { readFile } from 'node:fs/promises'
import { parseArgs, styleText } from 'node:util'
import { setFlagsFromString } from 'node:v8'
import type { KeyObject } from 'node:crypto'
import { SignetError } from '#core/error/signet-error.ts'
import { traceMark } from '#core/chain/mark.ts'
import { indexKeyring, parseKeyring, type Keyring } from '#core/keyring/keyring.ts'
import type { TreeHead } from '#core/tree/checkpoint.ts'
import { claimedOrigin, logVerifier, openLogCheckpoint, type LogKeys } from '#core/tree/log-key.ts'
import { createPool } from '#runtime/postgres/transaction.ts'
import { verifyStore, type FsckProgress, type FsckReport, type StoreFault } from '#runtime/wall/fsck.ts'
import { snapshotReader } from '#runtime/wall/reader.ts'
import type { ChainKeys } from '#runtime/wall/verify-chain.ts'
import { findState } from '../state.ts'
import { EXIT, UsageError } from '../usage.ts'

export const FSCK_HELP = `signet fsck [options]

Verifies a whole audit wall straight from its database, without the ledger, from the bytes: every record, link, stamp and column of
every tenant, then the tree over all of them with its checkpoints. It reads one snapshot and changes nothing.

  SIGNET_LEDGER_AUDIT_DB_URL   the wall, as a login that may SELECT (signet_ledger, or a reader of a copy)
  --keyring FILE       the ledger's keyring (else SIGNET_LEDGER_KEYRING, else the one beside npm start): chain keys, and the public
                       ack keys that sign checkpoints
  --checkpoint FILE    a checkpoint kept outside of the database (GET /log/checkpoint), which the tree must contain; repeatable.
                       Without one, a store that was set back to an earlier state does not show
  --json               the report as JSON

exit codes: 0 verified, up to a checkpoint given; 1 a fault: the first bad record of each chain is named
            2 usage, or something could not be read; 3 no fault found, but no checkpoint to compare with
`

type Result = 'verified' | 'not-fully-checked' | 'invalid'
type Report = {
  readonly result: Result
  readonly links: number
  readonly tenants: FsckReport['tenants']
  readonly tree: { leaves: number; checkpoints: number; root: string; origin: string | null } | null
  /** Sizes of the checkpoints from outside that the tree was found to contain. */
  readonly external: readonly number[]
  /** Links that are in no checkpoint of the store, and those past the last checkpoint from outside (null: none was given). */
  readonly not_yet_signed: number
  readonly not_yet_proven: number | null
  readonly first_bad?: StoreFault
  readonly faults: readonly StoreFault[]
  readonly seconds: number
  readonly cpu_seconds: number
}

/** Traces whose last link is kept in memory: 300 MB at most. */
const MAX_TRACES = 2_000_000
const STATEMENT_TIMEOUT_MS = 30 * 60_000
const SHOWN_TENANTS = 20
const EXIT_OF = { verified: EXIT.verified, 'not-fully-checked': EXIT.unchecked, invalid: EXIT.invalid } as const

/** Gives the exit code. @throws UsageError */
export async function fsck(args: string[], env: Readonly<Record<string, string | undefined>>): Promise<number> {
  const { values, positionals } = parseArgs({
    args,
    allowPositionals: true,
    options: {
      keyring: { type: 'string' },
      checkpoint: { type: 'string', multiple: true, default: [] },
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
  const report = await verify(url, keys, external)
  process.stdout.write(values.json ? `${JSON.stringify(report, null, 2)}\n` : format(report))
  return EXIT_OF[report.result]
}

type Keys = { readonly chainKeys: ChainKeys; readonly logKeys: LogKeys }

async function verify(url: string, keys: Keys, external: readonly TreeHead[]): Promise<Report> {
  // Each read of a socket is a new buffer, and V8 starts a full collection every 8 MB of them: a third of all CPU time, for a heap of 15 MB.
  setFlagsFromString('--heap-growing-percent=400')
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
      return reportOf(found, external, {
        seconds: Number(((performance.now() - startedAt) / 1_000).toFixed(3)),
        cpu_seconds: Number(((user + system) / 1e6).toFixed(3)),
      })
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

function reportOf(
  found: FsckReport,
  external: readonly TreeHead[],
  times: Pick<Report, 'seconds' | 'cpu_seconds'>,
): Report {
  const { links, tenants, tree, faults } = found
  const [first] = faults
  const proven = Math.max(...external.map(({ size }) => size))
  const signed = tenants.reduce((sum, { in_tree }) => sum + in_tree, 0)
  const sound: Result = external.length > 0 ? 'verified' : 'not-fully-checked'
  return {
    result: first === undefined ? sound : 'invalid',
    links,
    tenants,
    tree: tree && {
      leaves: tree.leaves,
      checkpoints: tree.checkpoints,
      root: tree.root.toString('base64'),
      origin: tree.origin,
    },
    external: external.map(({ size }) => size),
    not_yet_signed: Math.max(0, links - signed),
    not_yet_proven: external.length === 0 ? null : Math.max(0, links - proven),
    ...(first === undefined ? {} : { first_bad: first }),
    faults,
    ...times,
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

/** What a database says must not steer a terminal. */
function plain(text: string): string {
  return text.replaceAll(/\p{Cc}/gu, '\ufffd')
}

function format(report: Report): string {
  const paint = (style: 'green' | 'red' | 'yellow', text: string): string =>
    styleText(style, text, { stream: process.stdout })
  const { tree, tenants, links, seconds } = report
  const title = {
    verified: paint('green', 'verified'),
    'not-fully-checked': `${paint('yellow', 'no fault found')}, not fully checked`,
    invalid: paint('red', 'INVALID'),
  }[report.result]
  const lines = [`${title}  ${links} links of ${tenants.length} tenants in ${seconds.toFixed(1)} s`]
  for (const { tenant, seq, leaf, fault, detail } of report.faults) {
    const place = leaf === undefined ? `link ${seq} of tenant ${plain(tenant ?? '')}` : `leaf ${leaf} of the tree`
    lines.push(`  fault   ${place} (${fault}): ${plain(detail)}`)
  }
  for (const { tenant, seq, hash, purged } of tenants.slice(0, SHOWN_TENANTS)) {
    const without = purged === null || purged === 0 ? '' : `, ${purged} of them purged as the chain records`
    lines.push(`  chain   ${plain(tenant)}: ${seq} links${without}, head ${hash.slice(0, 16)}…`)
  }
  if (tenants.length > SHOWN_TENANTS) lines.push(`  chain   and ${tenants.length - SHOWN_TENANTS} more tenants`)
  if (tree !== null)
    lines.push(
      `  tree    ${tree.leaves} leaves, ${tree.checkpoints} signed checkpoints, root ${tree.root.slice(0, 16)}…`,
    )
  lines.push(
    report.not_yet_proven === null
      ? '  not checked  whether the store was set back: give a checkpoint from outside with --checkpoint FILE'
      : `  outside contains ${report.external.length === 1 ? 'the checkpoint' : 'the checkpoints'} of ${report.external.join(', ')} leaves`,
  )
  const tail = report.not_yet_proven ?? report.not_yet_signed
  lines.push(
    `  tail    ${tail} links are not yet proven by ${report.not_yet_proven === null ? 'a checkpoint of the store' : 'a checkpoint from outside'}`,
  )
  return `${lines.join('\n')}\n`
}
