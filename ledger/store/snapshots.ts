import type { RestoreStatement } from '#core/archive/restore.ts'
import { SignetError } from '#core/error/signet-error.ts'
import { query, type Pool } from '#runtime/postgres/transaction.ts'

const CLAIM_MS = 3 * 60_000

export type ArchiveWork = 'snapshots' | 'checkpoints' | 'restores' | 'locks'
export type StoredSnapshot = {
  readonly snapshot: string
  readonly madeAt: Date
  readonly manifestKey: string
  readonly manifestSha256: string
  /** What the store calls it; null where it was not kept. */
  readonly manifestVersion: string | null
  readonly treeSize: number
  readonly records: number
  readonly objects: number
  readonly bytes: number
}

/** Takes the work, or keeps it, for three minutes. False: another process has it. */
export async function claimArchive(work: Pool, name: ArchiveWork, holder: string): Promise<boolean> {
  const rows = await query(
    work,
    `UPDATE signet.archive_duty SET claimed_by = $2, claimed_until = now() + $3 * interval '1 millisecond'
      WHERE name = $1 AND (claimed_by = $2 OR claimed_by IS NULL OR claimed_until < now()) RETURNING 1`,
    [name, holder, CLAIM_MS],
  )
  return rows.length > 0
}

/** @throws SignetError LEDGER_BUSY where another process has taken the work over */
export async function keepClaim(work: Pool, name: ArchiveWork, holder: string): Promise<void> {
  if (!(await claimArchive(work, name, holder)))
    throw new SignetError('LEDGER_BUSY', `another process has taken over the ${name} of the archive`)
}

export async function releaseArchive(work: Pool, name: ArchiveWork, holder: string): Promise<void> {
  await query(work, 'UPDATE signet.archive_duty SET claimed_by = NULL WHERE name = $1 AND claimed_by = $2', [
    name,
    holder,
  ])
}

export async function addSnapshot(work: Pool, of: StoredSnapshot): Promise<void> {
  await query(
    work,
    `INSERT INTO signet.archive_snapshots (snapshot, made_at, manifest_key, manifest_sha256, tree_size, records, objects, bytes, manifest_version)
     VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)`,
    [
      of.snapshot,
      of.madeAt,
      of.manifestKey,
      Buffer.from(of.manifestSha256.slice('sha256:'.length), 'hex'),
      of.treeSize,
      of.records,
      of.objects,
      of.bytes,
      of.manifestVersion,
    ],
  )
}

/** The last ones, the newest first. */
export async function readSnapshots(work: Pool, limit: number): Promise<StoredSnapshot[]> {
  const rows = await query<Row>(
    work,
    `SELECT ${COLUMNS} FROM signet.archive_snapshots ORDER BY made_at DESC LIMIT $1`,
    [limit],
  )
  return rows.map(snapshotOf)
}

/** The last one that no restore since then gave up; null where there is none. */
export async function readSnapshotInForce(
  work: Pool,
  restores: readonly Pick<RestoreStatement, 'at' | 'continues'>[],
): Promise<StoredSnapshot | null> {
  const rows = await query<Row>(
    work,
    `SELECT ${COLUMNS} FROM signet.archive_snapshots s
      WHERE NOT EXISTS (SELECT FROM unnest($1::timestamptz[], $2::bigint[]) AS r(at, size) WHERE r.at >= s.made_at AND s.tree_size > r.size)
      ORDER BY tree_size DESC, made_at DESC LIMIT 1`,
    [restores.map(({ at }) => at), restores.map(({ continues }) => continues.size)],
  )
  return rows[0] === undefined ? null : snapshotOf(rows[0])
}

/** The last checkpoint that was archived, in leaves, and the history that it is of. */
export type HeldCheckpoint = { readonly branch: number; readonly size: number }

/** Takes the checkpoints as `claimArchive` does, and gives what the last holder archived. `held` null: nobody knows. */
export async function claimCheckpoints(
  work: Pool,
  holder: string,
): Promise<{ readonly held: HeldCheckpoint | null } | null> {
  if (!(await claimArchive(work, 'checkpoints', holder))) return null
  return { held: await readHeld(work) }
}

export async function readHeld(work: Pool): Promise<HeldCheckpoint | null> {
  const rows = await query<{ held_branch: number | null; held_size: string | null }>(
    work,
    "SELECT held_branch, held_size FROM signet.archive_duty WHERE name = 'checkpoints'",
  )
  const { held_branch: branch = null, held_size: size = null } = rows[0] ?? {}
  return branch === null || size === null ? null : { branch, size: Number(size) }
}

export async function saveHeld(work: Pool, held: HeldCheckpoint): Promise<void> {
  await query(work, "UPDATE signet.archive_duty SET held_branch = $1, held_size = $2 WHERE name = 'checkpoints'", [
    held.branch,
    held.size,
  ])
}

const COLUMNS =
  "snapshot, made_at, manifest_key, encode(manifest_sha256, 'hex') AS sha256, manifest_version, tree_size, records, objects, bytes"
type Row = {
  readonly snapshot: string
  readonly made_at: Date
  readonly manifest_key: string
  readonly sha256: string
  readonly manifest_version: string | null
  readonly tree_size: string
  readonly records: string
  readonly objects: string
  readonly bytes: string
}

function snapshotOf(row: Row): StoredSnapshot {
  return {
    snapshot: row.snapshot,
    madeAt: row.made_at,
    manifestKey: row.manifest_key,
    manifestSha256: `sha256:${row.sha256}`,
    manifestVersion: row.manifest_version,
    treeSize: Number(row.tree_size),
    records: Number(row.records),
    objects: Number(row.objects),
    bytes: Number(row.bytes),
  }
}
