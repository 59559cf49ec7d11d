import { publishPolicy, type PublishedPolicies, type PublishedPolicy } from '#core/retention/published.ts'
import type { RetentionPolicySpec } from '#core/rule/retention.ts'
import { query, type Pool } from '#runtime/postgres/transaction.ts'

/** A policy of a tenant's own, as it was put. */
export type TenantPolicy = {
  readonly tenant: string
  readonly name: string
  readonly spec: RetentionPolicySpec
  readonly updatedAt: Date
  readonly updatedBy: string
}

type Row = { tenant: string; name: string; spec: RetentionPolicySpec; updated_at: Date; updated_by: string }
const COLUMNS = 'tenant, name, spec, updated_at, updated_by'

/** Policies of all tenants that are read: more than that many are refused. */
export const MAX_POLICIES = 10_000
export const MAX_TENANT_POLICIES = 100

export async function readPolicies(work: Pool, tenant: string | null): Promise<TenantPolicy[]> {
  const rows = await query<Row>(
    work,
    `SELECT ${COLUMNS} FROM signet.retention_policies WHERE $1::text IS NULL OR tenant = $1 ORDER BY tenant, name LIMIT ${MAX_POLICIES}`,
    [tenant],
  )
  return rows.map(toPolicy)
}

export async function findPolicy(work: Pool, tenant: string, name: string): Promise<TenantPolicy | null> {
  const [row] = await query<Row>(
    work,
    `SELECT ${COLUMNS} FROM signet.retention_policies WHERE tenant = $1 AND name = $2`,
    [tenant, name],
  )
  return row === undefined ? null : toPolicy(row)
}

/** False where the tenant, or all of them, have as many as there may be. */
export async function savePolicy(work: Pool, policy: TenantPolicy): Promise<boolean> {
  const rows = await query(
    work,
    `INSERT INTO signet.retention_policies (${COLUMNS}) SELECT $1, $2, $3, $4, $5
      WHERE EXISTS (SELECT FROM signet.retention_policies WHERE tenant = $1 AND name = $2)
         OR ((SELECT count(*) FROM signet.retention_policies WHERE tenant = $1) < ${MAX_TENANT_POLICIES}
             AND (SELECT count(*) FROM signet.retention_policies) < ${MAX_POLICIES})
     ON CONFLICT (tenant, name) DO UPDATE SET spec = excluded.spec, updated_at = excluded.updated_at, updated_by = excluded.updated_by
     RETURNING 1`,
    [policy.tenant, policy.name, JSON.stringify(policy.spec), policy.updatedAt, policy.updatedBy],
  )
  return rows.length > 0
}

export async function removePolicy(work: Pool, tenant: string, name: string): Promise<void> {
  await query(work, 'DELETE FROM signet.retention_policies WHERE tenant = $1 AND name = $2', [tenant, name])
}

/** As the platform's are published. It selects records of its tenant only, whatever it says. */
export function published({ tenant, name, spec, updatedAt }: TenantPolicy): PublishedPolicy {
  const policy = publishPolicy({ name, uid: '', generation: updatedAt.getTime() }, spec)
  return { ...policy, selector: { ...policy.selector, tenants: [tenant] } }
}

function toPolicy({ tenant, name, spec, updated_at, updated_by }: Row): TenantPolicy {
  return { tenant, name, spec, updatedAt: updated_at, updatedBy: updated_by }
}

/** What is in force: the platform's policies (null: not known, or there is no operator) and those of tenants (null: not read yet). */
export type PolicyBook = {
  readonly platform: PublishedPolicies | null
  readonly tenants: readonly TenantPolicy[] | null
  /** All of them; null while those of tenants are not known. The same array until something changes. */
  all(): readonly PublishedPolicy[] | null
  setPlatform(policies: PublishedPolicies): void
  /** Reads those of tenants again. @throws SignetError DATABASE_UNAVAILABLE; what it knew stays */
  refresh(): Promise<void>
}

/** `expectsPlatform`: nothing is known before the platform's policies are. */
export function createPolicyBook(work: Pool, options: { readonly expectsPlatform: boolean }): PolicyBook {
  let platform: PublishedPolicies | null = null
  let tenants: readonly TenantPolicy[] | null = null
  let print = ''
  let all: readonly PublishedPolicy[] | null = null
  const combine = (): void => {
    if (tenants === null || (options.expectsPlatform && platform === null)) return
    all = [...(platform?.policies ?? []), ...tenants.map(published)]
  }
  return {
    get platform() {
      return platform
    },
    get tenants() {
      return tenants
    },
    all: () => all,
    setPlatform(policies) {
      platform = policies
      combine()
    },
    async refresh() {
      const read = await readPolicies(work, null)
      const readPrint = JSON.stringify(read)
      if (tenants !== null && readPrint === print) return
      tenants = read
      print = readPrint
      combine()
    },
  }
}
