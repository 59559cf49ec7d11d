import { withTenant, type Pool } from '#runtime/postgres/transaction.ts'
import type { Logger } from '#runtime/telemetry/log.ts'
import { putFileRules } from '../store/rules.ts'
import type { Rule } from './rule.ts'

/** Gives every tenant the rules of the folder as they are now, and says which of them are not in force. */
export async function seedFileRules(
  pool: Pool,
  tenants: readonly string[],
  rules: readonly Rule[],
  log: Logger,
): Promise<void> {
  for (const tenant of tenants) {
    const shadowed = await withTenant(pool, tenant, (client) => putFileRules(client, tenant, rules))
    if (shadowed.length > 0)
      log.warn(
        { tenant, rules: shadowed.slice(0, 100), count: shadowed.length },
        'rules of files are not in force: the API has rules of these ids',
      )
  }
}
