import type { Client } from '#runtime/postgres/transaction.ts'
import type { Rule } from '../rules/rule.ts'

export type RuleRow = Rule & {
  readonly source: 'api' | 'file'
  /** A file has a rule of this id, which is not in force. */
  readonly shadows_file: boolean
  readonly version: number
  readonly created_at: Date
  readonly updated_at: Date
}

const COLUMNS =
  'id, name, description, framework, severity, conditions, event, is_active, source, shadows_file, version, created_at, updated_at'

/** False where the id is taken. */
export async function insertRule(client: Client, tenant: string, rule: Rule): Promise<boolean> {
  const { rowCount } = await client.query(
    `INSERT INTO signet.rules (tenant, id, name, description, framework, severity, conditions, event, is_active, source)
     VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, 'api') ON CONFLICT DO NOTHING`,
    [tenant, ...valuesOf(rule)],
  )
  return rowCount === 1
}

/**
 * Rules of files, as they are now: what the API has switched on or off stays so; what is in no file any more goes. A rule of the API keeps its id.
 * @returns ids of files whose rules are not in force for that
 */
export async function putFileRules(client: Client, tenant: string, rules: readonly Rule[]): Promise<string[]> {
  for (const rule of rules)
    await client.query(
      `INSERT INTO signet.rules (tenant, id, name, description, framework, severity, conditions, event, is_active, source)
       VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, 'file')
       ON CONFLICT (tenant, id) DO UPDATE SET name = $3, description = $4, framework = $5, severity = $6, conditions = $7, event = $8,
         version = rules.version + 1, updated_at = now()
       WHERE rules.source = 'file' AND (rules.name, rules.description, rules.framework, rules.severity, rules.conditions, rules.event)
         IS DISTINCT FROM ($3, $4, $5, $6, $7::jsonb, $8::jsonb)`,
      [tenant, ...valuesOf(rule)],
    )
  await client.query(`DELETE FROM signet.rules WHERE tenant = $1 AND source = 'file' AND NOT (id = ANY($2))`, [
    tenant,
    rules.map(({ id }) => id),
  ])
  await client.query(
    `UPDATE signet.rules SET shadows_file = NOT shadows_file WHERE tenant = $1 AND source = 'api' AND shadows_file <> (id = ANY($2))`,
    [tenant, rules.map(({ id }) => id)],
  )
  const { rows } = await client.query<{ id: string }>(
    'SELECT id FROM signet.rules WHERE tenant = $1 AND shadows_file ORDER BY id',
    [tenant],
  )
  return rows.map(({ id }) => id)
}

export async function countRules(client: Client, tenant: string): Promise<number> {
  const { rows } = await client.query<{ count: number }>(
    'SELECT count(*)::int AS count FROM signet.rules WHERE tenant = $1',
    [tenant],
  )
  return rows[0]?.count ?? 0
}

export async function findRule(client: Client, tenant: string, id: string, lock = false): Promise<RuleRow | null> {
  const { rows } = await client.query<RuleRow>(
    `SELECT ${COLUMNS} FROM signet.rules WHERE tenant = $1 AND id = $2${lock ? ' FOR UPDATE' : ''}`,
    [tenant, id],
  )
  return rows[0] ?? null
}

/** In the order of ids, after `after`; one more than `limit` where there is a next page. */
export async function listRules(
  client: Client,
  tenant: string,
  { after, limit, framework }: { after: string | null; limit: number; framework: string | null },
): Promise<RuleRow[]> {
  const { rows } = await client.query<RuleRow>(
    `SELECT ${COLUMNS} FROM signet.rules
     WHERE tenant = $1 AND ($2::text IS NULL OR id > $2) AND ($3::text IS NULL OR framework = $3) ORDER BY id LIMIT $4`,
    [tenant, after, framework, limit + 1],
  )
  return rows
}

export async function updateRule(client: Client, tenant: string, rule: Rule): Promise<void> {
  await client.query(
    `UPDATE signet.rules SET name = $3, description = $4, framework = $5, severity = $6, conditions = $7, event = $8, is_active = $9,
       version = version + 1, updated_at = now() WHERE tenant = $1 AND id = $2`,
    [tenant, ...valuesOf(rule)],
  )
}

export async function deleteRule(client: Client, tenant: string, id: string): Promise<void> {
  await client.query('DELETE FROM signet.rules WHERE tenant = $1 AND id = $2', [tenant, id])
}

/** The rules of a scan: those that are active, or those that are named, active or not. */
export async function rulesToScan(client: Client, tenant: string, ids: readonly string[] | null): Promise<RuleRow[]> {
  const { rows } = await client.query<RuleRow>(
    `SELECT ${COLUMNS} FROM signet.rules WHERE tenant = $1 AND CASE WHEN $2::text[] IS NULL THEN is_active ELSE id = ANY($2) END ORDER BY id`,
    [tenant, ids],
  )
  return rows
}

function valuesOf({ id, name, description, framework, severity, conditions, event, is_active }: Rule): unknown[] {
  return [id, name, description, framework, severity, JSON.stringify(conditions), JSON.stringify(event), is_active]
}
