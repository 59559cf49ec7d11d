import { readFile } from 'node:fs/promises'
import { parseArgs } from 'node:util'
import type { KeyObject } from 'node:crypto'
import pg from 'pg'
import { SignetError } from '#core/error/signet-error.ts'
import { indexKeyring, parseKeyring } from '#core/keyring/keyring.ts'
import { openObjectStore, type ObjectStore } from '#runtime/archive/object-store.ts'
import { listManifests, readManifest, type FoundManifest } from '#runtime/archive/read.ts'
import { restoreArchive } from '#runtime/archive/restore.ts'
import { verifyArchive } from '#runtime/archive/verify.ts'
import { EXIT, UsageError } from '../usage.ts'

export const ARCHIVE_HELP = `signet archive list | verify | restore [options]

Reads the ledger's archive straight from the object store, without the ledger and without its databases.

  list                 the snapshots there are, the oldest first
  verify               every object, record, chain and the tree of a snapshot
  restore              puts a snapshot into an empty wall (migrated: ledger/main.ts migrate), after the same checks
  --snapshot NAME      the snapshot, a part of its key (else the newest)
  --keyring FILE       keyring whose public ack keys sign manifests (else SIGNET_LEDGER_KEYRING)
  --json               the report as JSON

  SIGNET_ARCHIVE_BUCKET, SIGNET_ARCHIVE_ENDPOINT, SIGNET_ARCHIVE_REGION, SIGNET_ARCHIVE_PREFIX   as the ledger has them
  AWS_…                                credentials, as the AWS SDK finds them
  SIGNET_LEDGER_AUDIT_DB_OWNER_URL     restore: the wall, as a login that may become its owner

exit codes: 0 done; 1 the archive is not what was written; 2 usage, or something could not be read
`

type Environment = Readonly<Record<string, string | undefined>>

/** Gives the exit code. @throws UsageError */
export async function archive(args: string[], env: Environment): Promise<number> {
  const { values, positionals } = parseArgs({
    args,
    allowPositionals: true,
    options: { snapshot: { type: 'string' }, keyring: { type: 'string' }, json: { type: 'boolean' } },
  })
  const [action = '', ...rest] = positionals
  if (!['list', 'verify', 'restore'].includes(action) || rest.length > 0)
    throw new UsageError('say what to do: list, verify or restore', ARCHIVE_HELP)
  const store = archiveStore(env)
  const show = (report: Record<string, unknown>): void => {
    const text = Object.entries(report).map(([name, value]) => `  ${name.padEnd(10)} ${String(value)}\n`)
    process.stdout.write(values.json === true ? `${JSON.stringify(report)}\n` : text.join(''))
  }
  try {
    if (action === 'list') {
      for (const key of await listManifests(store)) process.stdout.write(`${key}\n`)
      return EXIT.verified
    }
    const publicKeys = await archiveKeys(values.keyring ?? env['SIGNET_LEDGER_KEYRING'])
    const { key, manifest } = await choose(store, publicKeys, values.snapshot)
    const report =
      action === 'verify'
        ? await verifyArchive(store, manifest, publicKeys)
        : await restore(env, (client) => restoreArchive(client, store, manifest, publicKeys))
    show({ result: action === 'verify' ? 'verified' : 'restored', snapshot: key, ...report })
    return EXIT.verified
  } catch (error) {
    if (!(error instanceof SignetError)) throw error
    if (error.code !== 'ARCHIVE_INVALID' && error.code !== 'NOTE_UNTRUSTED' && error.code !== 'NOTE_INVALID')
      throw new UsageError(error.message)
    show({ result: 'INVALID', fault: error.message })
    return EXIT.invalid
  } finally {
    store.close()
  }
}

/** @throws UsageError */
export function archiveStore(env: Environment): ObjectStore {
  const bucket = env['SIGNET_ARCHIVE_BUCKET']
  if (!bucket) throw new UsageError('SIGNET_ARCHIVE_BUCKET does not say which bucket the archive is in')
  const endpoint = env['SIGNET_ARCHIVE_ENDPOINT']
  return openObjectStore({
    bucket,
    region: env['SIGNET_ARCHIVE_REGION'] ?? 'us-east-1',
    prefix: env['SIGNET_ARCHIVE_PREFIX'] ?? '',
    ...(endpoint ? { endpoint } : {}),
  })
}

async function choose(
  store: ObjectStore,
  publicKeys: readonly KeyObject[],
  named: string | undefined,
): Promise<FoundManifest> {
  const keys = (await listManifests(store)).filter((key) => named === undefined || key.includes(named))
  const key = keys.at(-1)
  if (key === undefined)
    throw new UsageError(named === undefined ? 'the archive has no snapshot' : `no snapshot is named ${named}`)
  return readManifest(store, key, publicKeys)
}

async function archiveKeys(file: string | undefined): Promise<KeyObject[]> {
  if (!file) throw new UsageError('give the keyring with --keyring FILE, or SIGNET_LEDGER_KEYRING')
  try {
    const keyring = parseKeyring(await readFile(file, 'utf8'))
    const index = indexKeyring(keyring)
    return keyring.keys.flatMap((key) => {
      const found = key.use === 'ack' ? index.ackKey(key.key_id)?.publicKey : undefined
      return found === undefined ? [] : [found]
    })
  } catch (error) {
    throw new UsageError(`the keyring ${file} cannot be used: ${error instanceof Error ? error.message : 'unreadable'}`)
  }
}

async function restore<T>(env: Environment, work: (client: pg.Client) => Promise<T>): Promise<T> {
  const url = env['SIGNET_LEDGER_AUDIT_DB_OWNER_URL']
  if (!url) throw new UsageError('SIGNET_LEDGER_AUDIT_DB_OWNER_URL does not say which wall to restore into')
  const client = new pg.Client({ connectionString: url, application_name: 'signet-archive' })
  client.on('error', () => undefined)
  try {
    await client.connect()
    return await work(client)
  } catch (error) {
    if (error instanceof SignetError || error instanceof UsageError || !(error instanceof Error)) throw error
    throw new UsageError(`the wall cannot be restored: ${error.message}`)
  } finally {
    await client.end().catch(() => undefined)
  }
}
