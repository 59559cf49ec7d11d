import { query, type Pool } from '#runtime/postgres/transaction.ts'

/** How far a pass over all chains is: `seq` of `tenant` and everything before is sound. `tenant` null: the pass is to begin. */
export type VerificationCursor = {
  readonly phase: 'chains' | 'tree'
  readonly tenant: string | null
  readonly seq: number
  readonly hash: Buffer | null
  readonly pass: number
  readonly passEndedAt: Date | null
}

/** Takes the word for a while, or keeps it; null while another process has it. The clock is the database's: processes share that one. */
export async function claimVerification(work: Pool, holder: string, forMs: number): Promise<VerificationCursor | null> {
  const [row] = await query<{
    phase: 'chains' | 'tree'
    tenant: string | null
    seq: string
    hash: Buffer | null
    pass: string
    pass_ended_at: Date | null
  }>(
    work,
    `UPDATE signet.verification SET claimed_by = $1, claimed_until = now() + $2 * interval '1 millisecond'
      WHERE claimed_by = $1 OR claimed_by IS NULL OR claimed_until < now()
      RETURNING phase, tenant, seq, hash, pass, pass_ended_at`,
    [holder, forMs],
  )
  if (row === undefined) return null
  return {
    phase: row.phase,
    tenant: row.tenant,
    seq: Number(row.seq),
    hash: row.hash,
    pass: Number(row.pass),
    passEndedAt: row.pass_ended_at,
  }
}

/** Saves how far it is; false where another process has taken over. */
export async function saveVerification(work: Pool, holder: string, cursor: VerificationCursor): Promise<boolean> {
  const rows = await query(
    work,
    `UPDATE signet.verification SET tenant = $2, seq = $3, hash = $4, pass = $5, pass_ended_at = $6, phase = $7 WHERE claimed_by = $1 RETURNING 1`,
    [holder, cursor.tenant, cursor.seq, cursor.hash, cursor.pass, cursor.passEndedAt, cursor.phase],
  )
  return rows.length > 0
}

/** Gives the word away before its time is up. */
export async function releaseVerification(work: Pool, holder: string): Promise<void> {
  await query(work, 'UPDATE signet.verification SET claimed_by = NULL WHERE claimed_by = $1', [holder])
}
