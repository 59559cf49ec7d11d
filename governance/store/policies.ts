import type { Client } from '#runtime/postgres/transaction.ts'
import type { Cursor } from './paging.ts'

export type PolicyRow = {
  readonly id: string
  readonly name: string
  readonly rule_id: string
  readonly policy_type: 'opa_rego'
  readonly latest: number
  readonly active: number | null
  readonly version: number
  readonly created_at: Date
  readonly updated_at: Date
}
export type PolicyVersionRow = {
  readonly policy_id: string
  readonly number: number
  readonly description: string
  readonly rego_content: string
  readonly regulation_refs: string[]
  readonly severity: 'low' | 'medium' | 'high' | 'critical'
  readonly mode: 'shadow' | 'enforce'
  readonly created_by: string
  readonly created_at: Date
}
export type NewVersion = Omit<PolicyVersionRow, 'created_at'> & {
  readonly entrypoint: string
  readonly wasm: Buffer
  readonly wasm_sha256: string
}

const POLICY = 'id, name, rule_id, policy_type, latest, active, version, created_at, updated_at'
const VERSION = 'policy_id, number, description, rego_content, regulation_refs, severity, mode, created_by, created_at'

/** False where the name is taken. */
export async function insertPolicy(
  client: Client,
  tenant: string,
  { id, name, rule_id }: Pick<PolicyRow, 'id' | 'name' | 'rule_id'>,
): Promise<boolean> {
  const { rowCount } = await client.query(
    `INSERT INTO signet.policies (tenant, id, name, rule_id, policy_type) VALUES ($1, $2, $3, $4, 'opa_rego')
     ON CONFLICT DO NOTHING`,
    [tenant, id, name, rule_id],
  )
  return rowCount === 1
}

export async function countPolicies(client: Client, tenant: string): Promise<number> {
  const { rows } = await client.query<{ count: number }>(
    'SELECT count(*)::int AS count FROM signet.policies WHERE tenant = $1',
    [tenant],
  )
  return rows[0]?.count ?? 0
}

export async function insertVersion(client: Client, tenant: string, version: NewVersion): Promise<void> {
  await client.query(
    `INSERT INTO signet.policy_versions (tenant, policy_id, number, description, rego_content, regulation_refs, severity, mode, created_by,
       entrypoint, wasm, wasm_sha256) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)`,
    [
      tenant,
      version.policy_id,
      version.number,
      version.description,
      version.rego_content,
      JSON.stringify(version.regulation_refs),
      version.severity,
      version.mode,
      version.created_by,
      version.entrypoint,
      version.wasm,
      version.wasm_sha256,
    ],
  )
}

export async function findPolicy(client: Client, tenant: string, id: string, lock = false): Promise<PolicyRow | null> {
  const { rows } = await client.query<PolicyRow>(
    `SELECT ${POLICY} FROM signet.policies WHERE tenant = $1 AND id = $2${lock ? ' FOR UPDATE' : ''}`,
    [tenant, id],
  )
  return rows[0] ?? null
}

export async function findPolicyNamed(
  client: Client,
  tenant: string,
  name: string,
  lock = false,
): Promise<PolicyRow | null> {
  const { rows } = await client.query<PolicyRow>(
    `SELECT ${POLICY} FROM signet.policies WHERE tenant = $1 AND lower(name) = lower($2)${lock ? ' FOR UPDATE' : ''}`,
    [tenant, name],
  )
  return rows[0] ?? null
}

export type PolicyListRow = PolicyRow & {
  readonly says: Pick<PolicyVersionRow, 'description' | 'rego_content' | 'regulation_refs' | 'severity' | 'mode'>
}

/** Each with what its latest version says; one more than `limit` where there is a next page; newest first. */
export async function listPolicies(
  client: Client,
  tenant: string,
  { after, limit }: { after: Cursor | null; limit: number },
): Promise<PolicyListRow[]> {
  const { rows } = await client.query<PolicyListRow>(
    `SELECT p.id, p.name, p.rule_id, p.policy_type, p.latest, p.active, p.version, p.created_at, p.updated_at,
       json_build_object('description', v.description, 'rego_content', v.rego_content, 'regulation_refs', v.regulation_refs,
         'severity', v.severity, 'mode', v.mode) AS says
     FROM signet.policies p JOIN signet.policy_versions v ON v.tenant = p.tenant AND v.policy_id = p.id AND v.number = p.latest
     WHERE p.tenant = $1 AND ($2::timestamptz IS NULL OR (p.created_at, p.id) < ($2, $3::uuid))
     ORDER BY p.created_at DESC, p.id DESC LIMIT $4`,
    [tenant, after?.at ?? null, after?.id ?? null, limit + 1],
  )
  return rows
}

/** False where another policy has the name. */
export async function updatePolicy(
  client: Client,
  tenant: string,
  id: string,
  { name, latest }: Pick<PolicyRow, 'name' | 'latest'>,
): Promise<boolean> {
  const taken = await client.query(
    'SELECT 1 FROM signet.policies WHERE tenant = $1 AND lower(name) = lower($2) AND id <> $3',
    [tenant, name, id],
  )
  if (taken.rowCount !== 0) return false
  await client.query(
    `UPDATE signet.policies SET name = $3, latest = $4, version = version + 1, updated_at = now()
     WHERE tenant = $1 AND id = $2`,
    [tenant, id, name, latest],
  )
  return true
}

export async function findVersion(
  client: Client,
  tenant: string,
  id: string,
  number: number,
): Promise<PolicyVersionRow | null> {
  const { rows } = await client.query<PolicyVersionRow>(
    `SELECT ${VERSION} FROM signet.policy_versions WHERE tenant = $1 AND policy_id = $2 AND number = $3`,
    [tenant, id, number],
  )
  return rows[0] ?? null
}

/** Newest first. */
export async function listVersions(
  client: Client,
  tenant: string,
  id: string,
  { below, limit }: { below: number; limit: number },
): Promise<PolicyVersionRow[]> {
  const { rows } = await client.query<PolicyVersionRow>(
    `SELECT ${VERSION} FROM signet.policy_versions WHERE tenant = $1 AND policy_id = $2 AND number < $3 ORDER BY number DESC LIMIT $4`,
    [tenant, id, below, limit],
  )
  return rows
}

export async function findCompiled(
  client: Client,
  tenant: string,
  id: string,
  number: number,
): Promise<{ entrypoint: string; wasm: Buffer; digest: string } | null> {
  const { rows } = await client.query<{ entrypoint: string; wasm: Buffer; digest: string }>(
    `SELECT entrypoint, wasm, wasm_sha256 AS digest FROM signet.policy_versions
     WHERE tenant = $1 AND policy_id = $2 AND number = $3`,
    [tenant, id, number],
  )
  return rows[0] ?? null
}

/** What is in force from now on; `number` null: nothing. */
export async function setActive(
  client: Client,
  tenant: string,
  policyId: string,
  made: { readonly id: string; readonly number: number | null; readonly by: string },
): Promise<void> {
  await client.query(
    `UPDATE signet.policies SET active = $3, version = version + 1, updated_at = now() WHERE tenant = $1 AND id = $2`,
    [tenant, policyId, made.number],
  )
  await client.query(
    `INSERT INTO signet.policy_activations (tenant, id, policy_id, number, made_by) VALUES ($1, $2, $3, $4, $5)`,
    [tenant, made.id, policyId, made.number, made.by],
  )
}

/** The version that was in force before the one that is; null where there was none. */
export async function formerActive(
  client: Client,
  tenant: string,
  policyId: string,
  active: number | null,
): Promise<number | null> {
  const { rows } = await client.query<{ number: number }>(
    `SELECT number FROM signet.policy_activations
     WHERE tenant = $1 AND policy_id = $2 AND number IS NOT NULL AND number IS DISTINCT FROM $3
     ORDER BY created_at DESC, id DESC LIMIT 1`,
    [tenant, policyId, active],
  )
  return rows[0]?.number ?? null
}

export type ActivePolicy = Pick<PolicyRow, 'id' | 'rule_id'> &
  Pick<PolicyVersionRow, 'number' | 'description' | 'rego_content' | 'regulation_refs' | 'severity' | 'mode'>

/** What the tenant's bundle is made of, in the order of rule ids. */
export async function activePolicies(client: Client, tenant: string): Promise<ActivePolicy[]> {
  const { rows } = await client.query<ActivePolicy>(
    `SELECT p.id, p.rule_id, v.number, v.description, v.rego_content, v.regulation_refs, v.severity, v.mode
     FROM signet.policies p JOIN signet.policy_versions v ON v.tenant = p.tenant AND v.policy_id = p.id AND v.number = p.active
     WHERE p.tenant = $1 ORDER BY p.rule_id`,
    [tenant],
  )
  return rows
}
