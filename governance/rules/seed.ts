import { withTenant, type Pool } from '#runtime/postgres/transaction.ts'
import { putFileRules } from '../store/rules.ts'
import type { Rule } from './rule.ts'

/** Gives every tenant the rules of the folder as they are now. */
export async function seedFileRules(pool: Pool, tenants: readonly string[], rules: readonly Rule[]): Promise<void> {
  for (const tenant of tenants) await withTenant(pool, tenant, (client) => putFileRules(client, tenant, rules))
}
