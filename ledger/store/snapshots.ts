import { SignetError } from '#core/error/signet-error.ts'
import { query, type Pool } from '#runtime/postgres/transaction.ts'

const CLAIM_MS = 3 * 60_000

export type ArchiveWork = 'snapshots' | 'checkpoints'
export type StoredSnapshot = {
  readonly snapshot: string
  readonly madeAt: Date
  readonly manifestKey: string
  readonly manifestSha256: string
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
    `INSERT INTO signet.archive_snapshots (snapshot, made_at, manifest_key, manifest_sha256, tree_size, records, objects, bytes)
     VALUES ($1, $2, $3, $4, $5, $6, $7, $8)`,
    [
      of.snapshot,
      of.madeAt,
      of.manifestKey,
      Buffer.from(of.manifestSha256.slice('sha256:'.length), 'hex'),
      of.treeSize,
      of.records,
      of.objects,
      of.bytes,
    ],
  )
}

/** The last ones, the newest first. */
export async function readSnapshots(work: Pool, limit: number): Promise<StoredSnapshot[]> {
  const rows = await query<{
    snapshot: string
    made_at: Date
    manifest_key: string
    sha256: string
    tree_size: string
    records: string
    objects: string
    bytes: string
  }>(
    work,
    `SELECT snapshot, made_at, manifest_key, encode(manifest_sha256, 'hex') AS sha256, tree_size, records, objects, bytes
       FROM signet.archive_snapshots ORDER BY tree_size DESC, made_at DESC LIMIT $1`,
    [limit],
  )
  return rows.map((row) => ({
    snapshot: row.snapshot,
    madeAt: row.made_at,
    manifestKey: row.manifest_key,
    manifestSha256: `sha256:${row.sha256}`,
    treeSize: Number(row.tree_size),
    records: Number(row.records),
    objects: Number(row.objects),
    bytes: Number(row.bytes),
  }))
}
