import type { WrappedSubject } from '#core/seal/wrap.ts'
import { query, type Pool } from '#runtime/postgres/transaction.ts'

/** A subject that is not erased. */
export type SubjectRow = WrappedSubject & { readonly nameIndex: Buffer; readonly createdAt: Date }
export type IndexKeyRow = { readonly masterKeyId: string; readonly wrappedIndexKey: Buffer }

const SUBJECT_COLUMNS = 'subject_id, name_index, master_key_id, wrapped_key, sealed_name, created_at'
type RawSubject = {
  subject_id: string
  name_index: Buffer
  master_key_id: string
  wrapped_key: Buffer
  sealed_name: Buffer
  created_at: Date
}

function subjectOf(row: RawSubject): SubjectRow {
  return {
    subjectId: row.subject_id,
    nameIndex: row.name_index,
    masterKeyId: row.master_key_id,
    wrappedKey: row.wrapped_key,
    sealedName: row.sealed_name,
    createdAt: row.created_at,
  }
}

/** The tenant's index key as it is after this: the one given, or one that was there before. */
export async function keepIndexKey(work: Pool, tenant: string, make: () => IndexKeyRow): Promise<IndexKeyRow> {
  const found = await findIndexKey(work, tenant)
  if (found !== null) return found
  const { masterKeyId, wrappedIndexKey } = make()
  await query(
    work,
    'INSERT INTO signet.seal_tenants (tenant, master_key_id, wrapped_index_key) VALUES ($1, $2, $3) ON CONFLICT (tenant) DO NOTHING',
    [tenant, masterKeyId, wrappedIndexKey],
  )
  return (await findIndexKey(work, tenant)) ?? { masterKeyId, wrappedIndexKey }
}

export async function findIndexKey(work: Pool, tenant: string): Promise<IndexKeyRow | null> {
  const [row] = await query<{ master_key_id: string; wrapped_index_key: Buffer }>(
    work,
    'SELECT master_key_id, wrapped_index_key FROM signet.seal_tenants WHERE tenant = $1',
    [tenant],
  )
  return row === undefined ? null : { masterKeyId: row.master_key_id, wrappedIndexKey: row.wrapped_index_key }
}

export async function findByIndex(work: Pool, tenant: string, indexes: readonly Buffer[]): Promise<SubjectRow[]> {
  const rows = await query<RawSubject>(
    work,
    `SELECT ${SUBJECT_COLUMNS} FROM signet.subjects WHERE tenant = $1 AND name_index = ANY($2::bytea[])`,
    [tenant, indexes],
  )
  return rows.map(subjectOf)
}

/** Those of the ids that are not erased. */
export async function findById(work: Pool, tenant: string, subjectIds: readonly string[]): Promise<SubjectRow[]> {
  const rows = await query<RawSubject>(
    work,
    `SELECT ${SUBJECT_COLUMNS} FROM signet.subjects WHERE tenant = $1 AND subject_id = ANY($2::uuid[]) AND erased_at IS NULL`,
    [tenant, subjectIds],
  )
  return rows.map(subjectOf)
}

/** Those of the ids that are erased. */
export async function findErased(work: Pool, tenant: string, subjectIds: readonly string[]): Promise<Set<string>> {
  const rows = await query<{ subject_id: string }>(
    work,
    'SELECT subject_id FROM signet.subjects WHERE tenant = $1 AND subject_id = ANY($2::uuid[]) AND erased_at IS NOT NULL',
    [tenant, subjectIds],
  )
  return new Set(rows.map(({ subject_id }) => subject_id))
}

/** Adds those whose name nobody has added before; of two processes with one name, the database lets one in. */
export async function addSubjects(
  work: Pool,
  tenant: string,
  rows: readonly Omit<SubjectRow, 'createdAt'>[],
  at: Date,
): Promise<void> {
  await query(
    work,
    `INSERT INTO signet.subjects (tenant, subject_id, name_index, master_key_id, wrapped_key, sealed_name, created_at)
     SELECT $1, r.subject_id, r.name_index, r.master_key_id, r.wrapped_key, r.sealed_name, $7
       FROM unnest($2::uuid[], $3::bytea[], $4::text[], $5::bytea[], $6::bytea[])
         AS r(subject_id, name_index, master_key_id, wrapped_key, sealed_name)
      -- One order for all, so that two batches with the same names do not wait for each other.
      ORDER BY r.name_index
     ON CONFLICT (tenant, name_index) DO NOTHING`,
    [
      tenant,
      rows.map((row) => row.subjectId),
      rows.map((row) => row.nameIndex),
      rows.map((row) => row.masterKeyId),
      rows.map((row) => row.wrappedKey),
      rows.map((row) => row.sealedName),
      at,
    ],
  )
}

/** Index keys of some tenants, one at least for each master key that wraps any. */
export async function sampleIndexKeys(work: Pool): Promise<(IndexKeyRow & { readonly tenant: string })[]> {
  const rows = await query<{ tenant: string; master_key_id: string; wrapped_index_key: Buffer }>(
    work,
    'SELECT DISTINCT ON (master_key_id) tenant, master_key_id, wrapped_index_key FROM signet.seal_tenants ORDER BY master_key_id, tenant',
  )
  return rows.map((row) => ({
    tenant: row.tenant,
    masterKeyId: row.master_key_id,
    wrappedIndexKey: row.wrapped_index_key,
  }))
}

/** Subjects and index keys under a master key other than `masterKeyId`, some of them. */
export async function findUnderOthers(
  work: Pool,
  masterKeyId: string,
  limit: number,
): Promise<{
  subjects: (SubjectRow & { readonly tenant: string })[]
  tenants: (IndexKeyRow & { readonly tenant: string })[]
}> {
  const subjects = await query<RawSubject & { tenant: string }>(
    work,
    `SELECT tenant, ${SUBJECT_COLUMNS} FROM signet.subjects WHERE erased_at IS NULL AND master_key_id <> $1 LIMIT $2`,
    [masterKeyId, limit],
  )
  const tenants = await query<{ tenant: string; master_key_id: string; wrapped_index_key: Buffer }>(
    work,
    'SELECT tenant, master_key_id, wrapped_index_key FROM signet.seal_tenants WHERE master_key_id <> $1 LIMIT $2',
    [masterKeyId, limit],
  )
  return {
    subjects: subjects.map((row) => ({ ...subjectOf(row), tenant: row.tenant })),
    tenants: tenants.map((row) => ({
      tenant: row.tenant,
      masterKeyId: row.master_key_id,
      wrappedIndexKey: row.wrapped_index_key,
    })),
  }
}

/** Puts the same key under another master key; does nothing to a row that changed since it was read, or was erased. */
export async function rewrapSubject(
  work: Pool,
  tenant: string,
  row: SubjectRow,
  next: { readonly masterKeyId: string; readonly wrappedKey: Buffer },
): Promise<void> {
  await query(
    work,
    `UPDATE signet.subjects SET master_key_id = $4, wrapped_key = $5
      WHERE tenant = $1 AND subject_id = $2 AND wrapped_key = $3 AND erased_at IS NULL`,
    [tenant, row.subjectId, row.wrappedKey, next.masterKeyId, next.wrappedKey],
  )
}

export async function rewrapIndexKey(work: Pool, tenant: string, row: IndexKeyRow, next: IndexKeyRow): Promise<void> {
  await query(
    work,
    'UPDATE signet.seal_tenants SET master_key_id = $3, wrapped_index_key = $4 WHERE tenant = $1 AND wrapped_index_key = $2',
    [tenant, row.wrappedIndexKey, next.masterKeyId, next.wrappedIndexKey],
  )
}

/** Tenants that have subjects with keys. */
export async function listTenants(work: Pool): Promise<string[]> {
  const rows = await query<{ tenant: string }>(work, 'SELECT tenant FROM signet.seal_tenants ORDER BY tenant')
  return rows.map(({ tenant }) => tenant)
}
