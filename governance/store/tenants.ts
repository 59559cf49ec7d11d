import { query, type Pool } from '#runtime/postgres/transaction.ts'

/** The names of all tenants, in no tenant's transaction: the one thing that reaches across them. @throws SignetError DATABASE_UNAVAILABLE */
export async function tenantNames(pool: Pool): Promise<string[]> {
  const rows = await query<{ tenant: string }>(pool, 'SELECT tenant FROM signet.tenant_names() AS t(tenant)')
  return rows.map(({ tenant }) => tenant)
}
