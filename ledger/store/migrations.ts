import path from 'node:path'
import { migrate } from '#runtime/postgres/migrate.ts'

/** Owns database, schema and tables of both databases; the runtime login is `signet_ledger`. */
export const OWNER_ROLE = 'signet_owner'

export function migrateWall(ownerUrl: string, onLog?: (line: string) => void): Promise<string[]> {
  return run(ownerUrl, 'wall', onLog)
}

export function migrateWork(ownerUrl: string, onLog?: (line: string) => void): Promise<string[]> {
  return run(ownerUrl, 'work', onLog)
}

function run(url: string, store: 'wall' | 'work', onLog: ((line: string) => void) | undefined): Promise<string[]> {
  const dir = path.join(import.meta.dirname, store, 'migrations')
  return migrate({ url, ownerRole: OWNER_ROLE, schema: 'signet', dir, ...(onLog === undefined ? {} : { onLog }) })
}
