import { randomUUID } from 'node:crypto'
import { canonicalize } from '#core/canonical/jcs.ts'
import {
  readArchiveManifest,
  signArchive,
  type ArchiveManifest,
  type ArchiveObject,
  type ArchivePart,
  type ArchiveTenant,
} from '#core/archive/manifest.ts'
import { SignetError } from '#core/error/signet-error.ts'
import { orNull, type ObjectStore } from '#runtime/archive/object-store.ts'
import { MAX_MANIFEST_BYTES, readManifest } from '#runtime/archive/read.ts'
import { withTenant, type Pool } from '#runtime/postgres/transaction.ts'
import { poolReader, type WallReader } from '#runtime/wall/reader.ts'
import type { LedgerKeys } from '../keys.ts'
import * as rows from '../store/archive.ts'
import { beginUnfinished, readUnfinished, readWritten, saveWritten, type Unfinished } from '../store/unfinished.ts'
import { ObjectWriter, requireLocked, sha256 } from './objects.ts'
import { publicKeysOf } from './public-keys.ts'
import { archiveTenant, lockOf, wholeSecond } from './tenant-part.ts'

export type SnapshotDeps = {
  readonly work: Pool
  readonly wall: Pool
  readonly keys: LedgerKeys
  readonly store: ObjectStore
  readonly clock: () => Date
  readonly retainDays: number
}
export type LastSnapshot = {
  readonly snapshot: string
  readonly manifestKey: string
  readonly manifestSha256: string
  readonly manifestVersion: string | null
}
export type Snapshot = {
  readonly snapshot: string
  readonly madeAt: Date
  readonly manifestKey: string
  readonly manifestSha256: string
  readonly manifestVersion: string
  readonly treeSize: number
  /** New in this snapshot. */
  readonly records: number
  readonly objects: number
  readonly bytes: number
}

const DAY_MS = 86_400_000
/** One that was interrupted goes on for so long; afterwards what it wrote is not locked for long enough any more. */
const GOES_ON_MS = 7 * DAY_MS

/**
 * Writes what is new since the last snapshot, reads it back, then signs and writes a manifest of everything, reads that back, and only
 * then records the proofs that a purge asks for. What was interrupted goes on with what it had written.
 * Null where no checkpoint is signed yet, or nothing is new. `beat` is called before each object.
 * @throws SignetError ARCHIVE_UNAVAILABLE, ARCHIVE_INVALID, DATABASE_UNAVAILABLE, CHAIN_BROKEN where the wall does not continue the last snapshot
 */
export async function takeSnapshot(
  deps: SnapshotDeps,
  last: LastSnapshot | null,
  beat: () => Promise<void>,
): Promise<Snapshot | null> {
  const { store, keys } = deps
  const reader = poolReader(deps.wall)
  const latest = await rows.readArchiveHead(reader)
  if (latest === null || latest.size === 0) return null
  await store.requireLock()
  const before = last === null ? null : await readLast(deps, last)
  if (before !== null) await requireContinued(reader, before, latest.size)
  if (before !== null && before.tree_size === latest.size) return null

  const begun = (await findUnfinished(deps, reader, last)) ?? (await begin(deps, latest, last))
  const { snapshot, madeAt } = begun
  const head = { size: begun.treeSize, note: begun.note }
  const folder = `snapshots/${madeAt.toISOString()}-${snapshot}/`
  const writer = new ObjectWriter({
    store,
    folder,
    onObject: beat,
    written: await readWritten(deps.work, snapshot),
    save: (written) => saveWritten(deps.work, snapshot, written),
  })
  const usual = wholeSecond(madeAt.getTime() + deps.retainDays * DAY_MS)
  const archiveDays = await rows.readArchiveDays(reader)
  const covered = await rows.readCovered(reader, head.size)
  const context = { reader, writer, usual, archiveDays }

  const tenants: ArchiveTenant[] = []
  const changed: { tenant: string; part: ArchivePart }[] = []
  let records = 0
  for (const each of covered) {
    const former = before?.tenants.find(({ tenant }) => tenant === each.tenant)
    const found = await archiveTenant(context, each, former)
    tenants.push(found.tenant)
    records += found.records
    for (const part of found.changed) changed.push({ tenant: each.tenant, part })
  }
  const from = before?.tree_size ?? 0
  const ofTable = (table: string) => ({ section: table, name: table, retainUntil: usual })
  const runs = await writer.write(ofTable('tree_runs'), from - 1, (place) => rows.runRows(reader, head.size, place))
  const tables: Record<string, ArchiveObject[]> = {
    retention_classes: await writer.writeWhole(ofTable('retention_classes'), rows.classRows(reader)),
    tree_checkpoints: [
      ...(before?.tables['tree_checkpoints'] ?? []),
      ...(await writer.write(ofTable('tree_checkpoints'), from, (place) =>
        rows.checkpointRows(reader, head.size, place),
      )),
    ],
  }
  for (const table of rows.TENANT_TABLES)
    tables[table] = await writer.writeWhole(ofTable(table), rows.tenantRows(reader, table, covered))
  await writer.readBack()
  // What earlier snapshots have of a month counts for its proof: it is looked at again, too.
  for (const { part } of changed) {
    for (const object of [...part.objects, ...part.stamps])
      await requireLocked(store, object.key, new Date(object.retain_until), object.version)
  }

  const ack = keys.ackKey(madeAt)
  const manifest = signArchive(
    {
      version: 1,
      snapshot,
      made_at: madeAt.toISOString(),
      checkpoint: head.note,
      tree_size: head.size,
      tenants,
      runs: [...(before?.runs ?? []), ...runs],
      tables,
      keys: keys.publicAckKeys().map(({ key_id, public_key }) => ({ key_id, public_key })),
      key_id: ack.keyId,
    },
    ack.privateKey,
  )
  const bytes = Buffer.from(canonicalize(manifest))
  const manifestKey = `${folder}manifest.json`
  const longest = new Date(Math.max(usual.getTime(), ...changed.map(({ part }) => lockOf(part).getTime())))
  await beat()
  const manifestVersion = await store.put(manifestKey, bytes, longest)
  const stored = await store.get(manifestKey, { maxBytes: bytes.length, versionId: manifestVersion })
  if (!stored.equals(bytes)) throw new SignetError('ARCHIVE_INVALID', `${manifestKey} is not what was written to it`)
  await requireLocked(store, manifestKey, longest, manifestVersion)

  const proof = { snapshot, manifestKey, manifestSha256: sha256(bytes), treeSize: head.size, verifiedAt: deps.clock() }
  for (const { tenant, part } of changed) await writeProof(deps.wall, tenant, part, proof)
  return {
    ...proof,
    manifestVersion,
    madeAt,
    records,
    objects: writer.used.length,
    bytes: writer.used.reduce((sum, object) => sum + object.bytes, 0),
  }
}

/**
 * The wall holds what the last snapshot said of it. One that was set back or forked must not be archived as its continuation, nor proofs be written
 * that a purge would believe.
 * @throws SignetError CHAIN_BROKEN
 */
async function requireContinued(reader: WallReader, before: ArchiveManifest, size: number): Promise<void> {
  const contradiction = (what: string): SignetError =>
    new SignetError('CHAIN_BROKEN', `the wall contradicts the snapshot ${before.snapshot}: ${what}`, {
      details: { fault: 'rollback', snapshot: before.snapshot },
    })
  if (size < before.tree_size) throw contradiction(`its tree has ${size} leaves, the snapshot has ${before.tree_size}`)
  for (const { tenant, last_seq: seq, head } of before.tenants) {
    const hash = await rows.readLinkHash(reader, tenant, seq)
    if (hash !== head) throw contradiction(`link ${seq} of ${tenant} is ${hash === null ? 'not there' : 'another one'}`)
  }
}

/** One that was begun of this wall, on top of the same snapshot, not too long ago. */
async function findUnfinished(
  { work, clock, retainDays }: SnapshotDeps,
  reader: WallReader,
  last: LastSnapshot | null,
): Promise<Unfinished | null> {
  const found = await readUnfinished(work)
  if (found === null || found.previous !== (last?.snapshot ?? null)) return null
  const age = clock().getTime() - found.madeAt.getTime()
  if (age < 0 || age > Math.min(GOES_ON_MS, (retainDays * DAY_MS) / 2)) return null
  return (await rows.readCheckpointNote(reader, found.treeSize)) === found.note ? found : null
}

async function begin(
  { work, clock }: SnapshotDeps,
  { size, note }: rows.ArchiveHead,
  last: LastSnapshot | null,
): Promise<Unfinished> {
  const of = { snapshot: randomUUID(), madeAt: clock(), treeSize: size, note, previous: last?.snapshot ?? null }
  await beginUnfinished(work, of)
  return of
}

/** @throws SignetError ARCHIVE_INVALID where it is not the one that was written */
export async function readLast(
  { store, keys }: Pick<SnapshotDeps, 'store' | 'keys'>,
  last: LastSnapshot,
): Promise<ArchiveManifest> {
  const { manifestKey: key, manifestSha256, manifestVersion } = last
  const pinned =
    manifestVersion === null
      ? null
      : await orNull(store.get(key, { maxBytes: MAX_MANIFEST_BYTES, versionId: manifestVersion }))
  if (pinned !== null && sha256(pinned) === manifestSha256) return readArchiveManifest(pinned, publicKeysOf(keys))
  const found = await readManifest(store, key, publicKeysOf(keys))
  if (sha256(found.bytes) !== manifestSha256)
    throw new SignetError('ARCHIVE_INVALID', `${key} is not the manifest that was written to it`)
  return found.manifest
}

async function writeProof(
  wall: Pool,
  tenant: string,
  part: ArchivePart,
  of: Pick<Snapshot, 'snapshot' | 'manifestKey' | 'manifestSha256' | 'treeSize'> & { readonly verifiedAt: Date },
): Promise<void> {
  await withTenant(wall, tenant, (client) =>
    client.query(
      `INSERT INTO signet.archive_proofs (tenant, retention_class, month, snapshot, first_seq, last_seq, records, manifest_sha256,
         object_key, retain_until, tree_size, verified_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)
       ON CONFLICT DO NOTHING`,
      [
        tenant,
        part.retention_class,
        part.month,
        of.snapshot,
        part.first_seq,
        part.last_seq,
        part.records,
        Buffer.from(of.manifestSha256.slice('sha256:'.length), 'hex'),
        of.manifestKey,
        lockOf(part),
        of.treeSize,
        of.verifiedAt,
      ],
    ),
  )
}
