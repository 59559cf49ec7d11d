import { query, type Pool } from '#runtime/postgres/transaction.ts'

/** How far a log was read. `pending`: the end of what was being recorded, of the same file. */
export type LogCursor = {
  readonly file: string | null
  readonly identity: string | null
  readonly position: number
  readonly pending: number | null
}

const CLAIM_MS = 30_000
type Row = { file: string | null; inode: string | null; position: string; pending: string | null }

/** The cursor, for the one process that has the word; null for the others. */
export async function claimCursor(work: Pool, source: string, holder: string): Promise<LogCursor | null> {
  const [row] = await query<Row>(
    work,
    `INSERT INTO signet.wall_log_cursors AS c (source, claimed_by, claimed_until) VALUES ($1, $2, now() + $3 * interval '1 millisecond')
     ON CONFLICT (source) DO UPDATE SET claimed_by = $2, claimed_until = excluded.claimed_until
      WHERE c.claimed_by = $2 OR c.claimed_by IS NULL OR c.claimed_until < now()
     RETURNING file, inode, position, pending`,
    [source, holder, CLAIM_MS],
  )
  if (row === undefined) return null
  const { file, inode, position, pending } = row
  return { file, identity: inode, position: Number(position), pending: pending === null ? null : Number(pending) }
}

/** False where another process has taken over. */
export async function saveCursor(work: Pool, source: string, holder: string, cursor: LogCursor): Promise<boolean> {
  const rows = await query(
    work,
    `UPDATE signet.wall_log_cursors SET file = $3, inode = $4, position = $5, pending = $6, claimed_until = now() + $7 * interval '1 millisecond'
      WHERE source = $1 AND claimed_by = $2 RETURNING 1`,
    [source, holder, cursor.file, cursor.identity, cursor.position, cursor.pending, CLAIM_MS],
  )
  return rows.length > 0
}

export async function releaseCursor(work: Pool, source: string, holder: string): Promise<void> {
  await query(work, 'UPDATE signet.wall_log_cursors SET claimed_by = NULL WHERE source = $1 AND claimed_by = $2', [
    source,
    holder,
  ])
}
