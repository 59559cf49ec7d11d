import type { Client } from '#runtime/postgres/transaction.ts'
import type { EvidenceCount } from '../frameworks/checklist.ts'
import type { Cursor } from './paging.ts'

export const EVIDENCE_KINDS = ['file', 'scan', 'ledger', 'stamp'] as const
export type EvidenceKind = (typeof EVIDENCE_KINDS)[number]
export type ControlName = { readonly framework: string; readonly control: string }
export type EvidenceRow = {
  readonly id: string
  readonly kind: EvidenceKind
  readonly name: string
  readonly description: string
  readonly media_type: string
  readonly bytes: number
  readonly sha256: string
  readonly object_key: string
  readonly collected_key: string | null
  readonly valid_until: Date
  readonly made_by: string
  readonly version: number
  readonly created_at: Date
  readonly updated_at: Date
  readonly controls: readonly ControlName[]
}
export type NewEvidence = Omit<EvidenceRow, 'version' | 'created_at' | 'updated_at'>

const COLUMNS = `e.id, e.kind, e.name, e.description, e.media_type, e.bytes, e.sha256, e.object_key, e.collected_key, e.valid_until, e.made_by,
  e.version, e.created_at, e.updated_at,
  (SELECT coalesce(jsonb_agg(jsonb_build_object('framework', c.framework, 'control', c.control) ORDER BY c.framework, c.control), '[]')
   FROM signet.evidence_controls c WHERE c.tenant = e.tenant AND c.evidence_id = e.id) AS controls`

/** An object that is about to be put: it is deleted when it is due, unless it is claimed before. */
export async function noteUnclaimed(client: Client, tenant: string, objectKey: string, dueAt: Date): Promise<void> {
  await client.query('INSERT INTO signet.evidence_unclaimed (tenant, object_key, due_at) VALUES ($1, $2, $3)', [
    tenant,
    objectKey,
    dueAt,
  ])
}

/** False where it was deleted meanwhile, or is being deleted now. */
export async function claim(client: Client, tenant: string, objectKey: string): Promise<boolean> {
  const { rowCount } = await client.query(
    'DELETE FROM signet.evidence_unclaimed WHERE tenant = $1 AND object_key = $2',
    [tenant, objectKey],
  )
  return rowCount === 1
}

/** The object that is due first, kept from everybody else for as long as the transaction lasts; null where none is. */
export async function takeUnclaimed(client: Client, tenant: string, now: Date): Promise<string | null> {
  const { rows } = await client.query<{ object_key: string }>(
    `SELECT object_key FROM signet.evidence_unclaimed WHERE tenant = $1 AND due_at <= $2
     ORDER BY due_at LIMIT 1 FOR UPDATE SKIP LOCKED`,
    [tenant, now],
  )
  return rows[0]?.object_key ?? null
}

/** Null where what is collected once was collected by somebody else. */
export async function insertEvidence(client: Client, tenant: string, made: NewEvidence): Promise<EvidenceRow | null> {
  const { rowCount } = await client.query(
    `INSERT INTO signet.evidence (tenant, id, kind, name, description, media_type, bytes, sha256, object_key, collected_key, valid_until, made_by)
     VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)
     ON CONFLICT (tenant, kind, collected_key) WHERE collected_key IS NOT NULL DO NOTHING`,
    [
      tenant,
      made.id,
      made.kind,
      made.name,
      made.description,
      made.media_type,
      made.bytes,
      made.sha256,
      made.object_key,
      made.collected_key,
      made.valid_until,
      made.made_by,
    ],
  )
  if (rowCount === 0) return null
  await replaceControls(client, tenant, made.id, made.controls)
  return findEvidence(client, tenant, made.id)
}

export async function replaceControls(
  client: Client,
  tenant: string,
  id: string,
  controls: readonly ControlName[],
): Promise<void> {
  await client.query('DELETE FROM signet.evidence_controls WHERE tenant = $1 AND evidence_id = $2', [tenant, id])
  await client.query(
    `INSERT INTO signet.evidence_controls (tenant, framework, control, evidence_id, created_at)
     SELECT e.tenant, c.framework, c.control, e.id, e.created_at
     FROM signet.evidence e, jsonb_to_recordset($3::jsonb) AS c(framework text, control text) WHERE e.tenant = $1 AND e.id = $2`,
    [tenant, id, JSON.stringify(controls)],
  )
}

export async function findEvidence(
  client: Client,
  tenant: string,
  id: string,
  lock = false,
): Promise<EvidenceRow | null> {
  const { rows } = await client.query<EvidenceRow>(
    `SELECT ${COLUMNS} FROM signet.evidence e WHERE e.tenant = $1 AND e.id = $2${lock ? ' FOR UPDATE' : ''}`,
    [tenant, id],
  )
  return rows[0] ?? null
}

export async function isCollected(client: Client, tenant: string, kind: EvidenceKind, key: string): Promise<boolean> {
  const { rowCount } = await client.query(
    'SELECT 1 FROM signet.evidence WHERE tenant = $1 AND kind = $2 AND collected_key = $3',
    [tenant, kind, key],
  )
  return rowCount === 1
}

export async function countAll(client: Client, tenant: string): Promise<number> {
  const { rows } = await client.query<{ count: number }>(
    'SELECT count(*)::int AS count FROM signet.evidence WHERE tenant = $1',
    [tenant],
  )
  return rows[0]?.count ?? 0
}

export type EvidenceFilter = { readonly kind: EvidenceKind | null; readonly of: ControlName | null }

/** One more than `limit` where there is a next page; newest first. */
export async function listEvidence(
  client: Client,
  tenant: string,
  { kind, of }: EvidenceFilter,
  { after, limit }: { after: Cursor | null; limit: number },
): Promise<EvidenceRow[]> {
  const values: unknown[] = [tenant, after?.at ?? null, after?.id ?? null, limit + 1]
  const given = (value: unknown): string => `$${values.push(value)}`
  const kindIs = kind === null ? '' : ` AND e.kind = ${given(kind)}`
  const { rows } = await client.query<EvidenceRow>(
    of === null
      ? `SELECT ${COLUMNS} FROM signet.evidence e
         WHERE e.tenant = $1 AND ($2::timestamptz IS NULL OR (e.created_at, e.id) < ($2, $3::uuid))${kindIs}
         ORDER BY e.created_at DESC, e.id DESC LIMIT $4`
      : `SELECT ${COLUMNS} FROM signet.evidence_controls l JOIN signet.evidence e ON e.tenant = l.tenant AND e.id = l.evidence_id
         WHERE l.tenant = $1 AND l.framework = ${given(of.framework)} AND l.control = ${given(of.control)}
           AND ($2::timestamptz IS NULL OR (l.created_at, l.evidence_id) < ($2, $3::uuid))${kindIs}
         ORDER BY l.created_at DESC, l.evidence_id DESC LIMIT $4`,
    values,
  )
  return rows
}

export async function updateEvidence(
  client: Client,
  tenant: string,
  row: Pick<EvidenceRow, 'id' | 'name' | 'description' | 'valid_until'>,
): Promise<void> {
  await client.query(
    `UPDATE signet.evidence SET name = $3, description = $4, valid_until = $5, version = version + 1, updated_at = now()
     WHERE tenant = $1 AND id = $2`,
    [tenant, row.id, row.name, row.description, row.valid_until],
  )
}

export async function deleteEvidence(client: Client, tenant: string, id: string): Promise<void> {
  await client.query('DELETE FROM signet.evidence WHERE tenant = $1 AND id = $2', [tenant, id])
}

/** By control of a framework. Of what Signet collects itself, the next takes the place of what is out of date. */
export async function countEvidence(
  client: Client,
  tenant: string,
  framework: string,
  now: Date,
): Promise<Map<string, EvidenceCount>> {
  const { rows } = await client.query<{ control: string } & EvidenceCount>(
    `SELECT c.control, count(*) FILTER (WHERE e.valid_until > $3)::int AS fresh,
       count(*) FILTER (WHERE e.valid_until <= $3 AND e.kind = 'file')::int AS stale
     FROM signet.evidence_controls c JOIN signet.evidence e ON e.tenant = c.tenant AND e.id = c.evidence_id
     WHERE c.tenant = $1 AND c.framework = $2 GROUP BY c.control`,
    [tenant, framework, now],
  )
  return new Map(rows.map(({ control, fresh, stale }) => [control, { fresh, stale }]))
}
