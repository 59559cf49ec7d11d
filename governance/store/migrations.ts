import path from 'node:path'
import { migrate } from '#runtime/postgres/migrate.ts'

/** Owns database, schema and tables; the runtime login is `LOGIN_ROLE`. */
export const OWNER_ROLE = 'signet_owner'
export const LOGIN_ROLE = 'signet_governance'

export function migrateGovernance(ownerUrl: string, onLog?: (line: string) => void): Promise<string[]> {
  const dir = path.join(import.meta.dirname, 'migrations')
  const options = { url: ownerUrl, ownerRole: OWNER_ROLE, schema: 'signet', dir }
  return migrate({ ...options, ...(onLog === undefined ? {} : { onLog }) })
}
