import type { JsonObject } from '#core/json/value.ts'
import type { Client } from '#runtime/postgres/transaction.ts'
import type { Cursor } from './paging.ts'

export type ScanRow = {
  readonly id: string
  readonly org_id: string
  readonly trigger: 'manual' | 'schedule'
  readonly requested_by: string
  readonly rule_ids: string[] | null
  readonly given_facts: string[]
  readonly problems: Record<string, string>
  readonly passed: number
  readonly failed: number
  readonly started_at: Date
  readonly created_at: Date
}
export type ResultRow = {
  readonly id: string
  readonly scan_id: string
  readonly org_id: string
  readonly rule_id: string
  readonly user_id: string | null
  readonly finding: string
  readonly severity: string
  readonly compliance_framework: string
  readonly details: JsonObject
  readonly passed: boolean
  readonly created_at: Date
}
export type NewResult = Omit<ResultRow, 'scan_id' | 'org_id' | 'created_at'>

const SCAN =
  'id, org_id, trigger, requested_by, rule_ids, given_facts, problems, passed, failed, started_at, created_at'
const RESULT =
  'id, scan_id, org_id, rule_id, user_id, finding, severity, compliance_framework, details, passed, created_at'

export async function insertScan(client: Client, tenant: string, scan: Omit<ScanRow, 'created_at'>): Promise<void> {
  await client.query(
    `INSERT INTO signet.scans (tenant, id, org_id, trigger, requested_by, rule_ids, given_facts, problems, passed, failed, started_at)
     VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)`,
    [
      tenant,
      scan.id,
      scan.org_id,
      scan.trigger,
      scan.requested_by,
      scan.rule_ids === null ? null : JSON.stringify(scan.rule_ids),
      JSON.stringify(scan.given_facts),
      JSON.stringify(scan.problems),
      scan.passed,
      scan.failed,
      scan.started_at,
    ],
  )
}

export async function insertResults(
  client: Client,
  tenant: string,
  scan: Pick<ScanRow, 'id' | 'org_id'>,
  results: readonly NewResult[],
): Promise<void> {
  await client.query(
    `INSERT INTO signet.scan_results (tenant, scan_id, org_id, id, rule_id, user_id, finding, severity, compliance_framework, details, passed)
     SELECT $1, $2, $3, r.id, r.rule_id, r.user_id, r.finding, r.severity, r.compliance_framework, r.details, r.passed
     FROM jsonb_to_recordset($4::jsonb) AS r(id uuid, rule_id text, user_id uuid, finding text, severity text, compliance_framework text,
       details jsonb, passed boolean)`,
    [tenant, scan.id, scan.org_id, JSON.stringify(results)],
  )
}

export async function findScan(client: Client, tenant: string, id: string): Promise<ScanRow | null> {
  const { rows } = await client.query<ScanRow>(`SELECT ${SCAN} FROM signet.scans WHERE tenant = $1 AND id = $2`, [
    tenant,
    id,
  ])
  return rows[0] ?? null
}

/** One more than `limit` where there is a next page; newest first. */
export async function listScans(
  client: Client,
  tenant: string,
  { after, limit, orgId }: { after: Cursor | null; limit: number; orgId: string | null },
): Promise<ScanRow[]> {
  const { rows } = await client.query<ScanRow>(
    `SELECT ${SCAN} FROM signet.scans
     WHERE tenant = $1 ${orgId === null ? '' : 'AND org_id = $5'} AND ($2::timestamptz IS NULL OR (created_at, id) < ($2, $3::uuid))
     ORDER BY created_at DESC, id DESC LIMIT $4`,
    [tenant, after?.at ?? null, after?.id ?? null, limit + 1, ...(orgId === null ? [] : [orgId])],
  )
  return rows
}

export async function listResults(
  client: Client,
  tenant: string,
  scanId: string,
  { after, limit, passed }: { after: Cursor | null; limit: number; passed: boolean | null },
): Promise<ResultRow[]> {
  const { rows } = await client.query<ResultRow>(
    `SELECT ${RESULT} FROM signet.scan_results
     WHERE tenant = $1 AND scan_id = $2 AND ($3::timestamptz IS NULL OR (created_at, id) < ($3, $4::uuid)) AND ($5::boolean IS NULL OR passed = $5)
     ORDER BY created_at DESC, id DESC LIMIT $6`,
    [tenant, scanId, after?.at ?? null, after?.id ?? null, passed, limit + 1],
  )
  return rows
}

export async function findResult(client: Client, tenant: string, id: string): Promise<ResultRow | null> {
  const { rows } = await client.query<ResultRow>(
    `SELECT ${RESULT} FROM signet.scan_results WHERE tenant = $1 AND id = $2`,
    [tenant, id],
  )
  return rows[0] ?? null
}

type Difference = Pick<ResultRow, 'rule_id' | 'user_id' | 'finding' | 'severity'>

/** Failures that one scan has and another has not: at most `limit`. */
export async function onlyIn(
  client: Client,
  tenant: string,
  scanId: string,
  otherId: string,
  limit: number,
): Promise<Difference[]> {
  const { rows } = await client.query<Difference>(
    // Grouped, not joined: a join without statistics looks at each pair of a rule's users.
    `SELECT rule_id, user_id, min(finding) AS finding, min(severity) AS severity FROM signet.scan_results
     WHERE tenant = $1 AND scan_id IN ($2, $3) AND NOT passed
     GROUP BY rule_id, user_id HAVING NOT bool_or(scan_id = $3) ORDER BY rule_id, user_id LIMIT $4`,
    [tenant, scanId, otherId, limit],
  )
  return rows
}

/** The newest since then that applied all rules to facts as they were; null where there is none. */
export async function newestScan(client: Client, tenant: string, since: Date): Promise<ScanRow | null> {
  const { rows } = await client.query<ScanRow>(
    `SELECT ${SCAN} FROM signet.scans WHERE tenant = $1 AND created_at > $2 AND rule_ids IS NULL AND given_facts = '[]'
     ORDER BY created_at DESC, id DESC LIMIT 1`,
    [tenant, since],
  )
  return rows[0] ?? null
}

export type RuleSummary = {
  readonly rule_id: string
  readonly framework: string
  readonly severity: string
  /** That the rule names as what it is about; null for none. */
  readonly control: string | null
  readonly passed: number
  readonly failed: number
}

/** Results of a scan by rule, a thousand at most. */
export async function summarizeScan(client: Client, tenant: string, scanId: string): Promise<RuleSummary[]> {
  const { rows } = await client.query<RuleSummary>(
    `SELECT rule_id, min(compliance_framework) AS framework, min(severity) AS severity, min(details #>> '{params,control}') AS control,
       count(*) FILTER (WHERE passed)::int AS passed, count(*) FILTER (WHERE NOT passed)::int AS failed
     FROM signet.scan_results WHERE tenant = $1 AND scan_id = $2 GROUP BY rule_id ORDER BY rule_id LIMIT 1000`,
    [tenant, scanId],
  )
  return rows
}
