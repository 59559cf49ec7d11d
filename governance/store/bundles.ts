import type { Client } from '#runtime/postgres/transaction.ts'

export type RevisionHead = {
  /** bigint as text. */
  readonly sequence: string
  readonly revision: string
  readonly inputs_sha256: string
  readonly etag: string
  readonly issued_at: Date
  readonly expires_at: Date
}
export type Revision = RevisionHead & { readonly bundle: Buffer }

const HEAD = 'sequence, revision, inputs_sha256, etag, issued_at, expires_at'

export async function latestRevision(client: Client, tenant: string): Promise<RevisionHead | null> {
  const { rows } = await client.query<RevisionHead>(
    `SELECT ${HEAD} FROM signet.bundle_revisions WHERE tenant = $1 ORDER BY sequence DESC LIMIT 1`,
    [tenant],
  )
  return rows[0] ?? null
}

export async function revisionBundle(client: Client, tenant: string, sequence: string): Promise<Buffer | null> {
  const { rows } = await client.query<{ bundle: Buffer }>(
    'SELECT bundle FROM signet.bundle_revisions WHERE tenant = $1 AND sequence = $2',
    [tenant, sequence],
  )
  return rows[0]?.bundle ?? null
}

export async function insertRevision(client: Client, tenant: string, made: Revision): Promise<void> {
  await client.query(
    `INSERT INTO signet.bundle_revisions (tenant, sequence, revision, inputs_sha256, bundle, etag, issued_at, expires_at)
     VALUES ($1, $2, $3, $4, $5, $6, $7, $8)`,
    [tenant, made.sequence, made.revision, made.inputs_sha256, made.bundle, made.etag, made.issued_at, made.expires_at],
  )
}

/** All but the newest `kept`. */
export async function deleteRevisions(client: Client, tenant: string, kept: number): Promise<void> {
  await client.query(
    `DELETE FROM signet.bundle_revisions WHERE tenant = $1 AND sequence <
       (SELECT min(sequence) FROM (SELECT sequence FROM signet.bundle_revisions WHERE tenant = $1 ORDER BY sequence DESC LIMIT $2) AS newest)`,
    [tenant, kept],
  )
}
