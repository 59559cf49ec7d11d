import { query, type Pool } from '#runtime/postgres/transaction.ts'

/** What an erasure destroyed; the receipt says it word for word. */
export type Destroyed = {
  /** The subject whose key it was. */
  readonly subject_id: string
  readonly key_created_at: string
  readonly master_key_id: string
  /** SHA-256 of the wrapped key: who finds one in a backup can tell that it is this one. */
  readonly wrapped_key_sha256: string
}
export type Erasure = {
  readonly id: string
  readonly tenant: string
  readonly subjectId: string
  readonly requestedBy: string
  readonly reason: string | null
  readonly destroyed: Destroyed
  readonly destroyedAt: Date
  /** Where the receipt is in the chain; null until it is there. */
  readonly record: { readonly eventId: string; readonly seq: number; readonly recordedAt: Date } | null
}
type Row = {
  id: string
  tenant: string
  subject_id: string
  requested_by: string
  reason: string | null
  destroyed: Destroyed
  destroyed_at: Date
  event_id: string | null
  seq: string | null
  recorded_at: Date | null
}
const COLUMNS = 'id, tenant, subject_id, requested_by, reason, destroyed, destroyed_at, event_id, seq, recorded_at'

function erasureOf(row: Row): Erasure {
  const { event_id: eventId, seq, recorded_at: recordedAt } = row
  return {
    id: row.id,
    tenant: row.tenant,
    subjectId: row.subject_id,
    requestedBy: row.requested_by,
    reason: row.reason,
    destroyed: row.destroyed,
    destroyedAt: row.destroyed_at,
    record: eventId === null || seq === null || recordedAt === null ? null : { eventId, seq: Number(seq), recordedAt },
  }
}

export type Target = { readonly subjectId: string } | { readonly nameIndex: Buffer }
export type Order = {
  readonly id: string
  readonly requestedBy: string
  readonly reason: string | null
  readonly at: Date
}

/**
 * Destroys the key, the name and the name's index of a subject, and notes what it was; all or nothing, once: of two at a time one does it.
 * Null where there is no such subject with a key.
 */
export async function destroySubject(
  work: Pool,
  tenant: string,
  target: Target,
  order: Order,
): Promise<Erasure | null> {
  const [column, value] = 'subjectId' in target ? ['subject_id', target.subjectId] : ['name_index', target.nameIndex]
  const [row] = await query<Row>(
    work,
    // An UPDATE shows its new values only: the old ones come from the lock.
    `WITH found AS (
       SELECT * FROM signet.subjects WHERE tenant = $1 AND ${column} = $2 AND erased_at IS NULL FOR UPDATE
     ), gone AS (
       UPDATE signet.subjects s
          SET name_index = NULL, master_key_id = NULL, wrapped_key = NULL, sealed_name = NULL, erased_at = $6
         FROM found f WHERE s.tenant = f.tenant AND s.subject_id = f.subject_id
     )
     INSERT INTO signet.erasures (id, tenant, subject_id, name_index, requested_by, reason, destroyed, destroyed_at)
     SELECT $3, f.tenant, f.subject_id, f.name_index, $4, $5,
            jsonb_build_object('subject_id', f.subject_id, 'master_key_id', f.master_key_id,
              'key_created_at', to_char(f.created_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"'),
              'wrapped_key_sha256', encode(sha256(f.wrapped_key), 'hex')), $6
       FROM found f
     ON CONFLICT (tenant, subject_id) DO UPDATE SET name_index = NULL
     RETURNING ${COLUMNS}`,
    [tenant, value, order.id, order.requestedBy, order.reason, order.at],
  )
  return row === undefined ? null : erasureOf(row)
}

/** The erasure of a subject, or the one whose receipt is still to be written, by the name that was erased. */
export async function findErasureOf(work: Pool, tenant: string, target: Target): Promise<Erasure | null> {
  const [column, value] = 'subjectId' in target ? ['subject_id', target.subjectId] : ['name_index', target.nameIndex]
  const [row] = await query<Row>(
    work,
    `SELECT ${COLUMNS} FROM signet.erasures WHERE tenant = $1 AND ${column} = $2 ORDER BY destroyed_at DESC LIMIT 1`,
    [tenant, value],
  )
  return row === undefined ? null : erasureOf(row)
}

export async function findErasure(work: Pool, tenant: string, id: string): Promise<Erasure | null> {
  const [row] = await query<Row>(work, `SELECT ${COLUMNS} FROM signet.erasures WHERE tenant = $1 AND id = $2`, [
    tenant,
    id,
  ])
  return row === undefined ? null : erasureOf(row)
}

/** Erasures whose receipt is not in the chain yet, the oldest first. */
export async function findUnrecorded(work: Pool, limit: number): Promise<Erasure[]> {
  const rows = await query<Row>(
    work,
    `SELECT ${COLUMNS} FROM signet.erasures WHERE recorded_at IS NULL ORDER BY destroyed_at LIMIT $1`,
    [limit],
  )
  return rows.map(erasureOf)
}

/** The receipt is in the chain: nothing that was made from the name is needed any more. */
export async function saveRecorded(
  work: Pool,
  erasure: Erasure,
  record: { readonly eventId: string; readonly seq: number; readonly recordedAt: Date },
): Promise<void> {
  await query(
    work,
    'UPDATE signet.erasures SET event_id = $3, seq = $4, recorded_at = coalesce(recorded_at, $5), name_index = NULL WHERE tenant = $1 AND id = $2',
    [erasure.tenant, erasure.id, record.eventId, record.seq, record.recordedAt],
  )
}

/** Destroys keys that are there again, of subjects that the chain says were erased: after a restore. How many there were. */
export async function destroyAgain(
  work: Pool,
  tenant: string,
  subjectIds: readonly string[],
  at: Date,
): Promise<string[]> {
  const rows = await query<{ subject_id: string }>(
    work,
    `UPDATE signet.subjects SET name_index = NULL, master_key_id = NULL, wrapped_key = NULL, sealed_name = NULL, erased_at = $3
      WHERE tenant = $1 AND subject_id = ANY($2::uuid[]) AND erased_at IS NULL RETURNING subject_id`,
    [tenant, subjectIds, at],
  )
  return rows.map(({ subject_id }) => subject_id)
}
