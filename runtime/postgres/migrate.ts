import { runner } from 'node-pg-migrate'
import pg from 'pg'
import { unavailable } from './transaction.ts'

export type MigrateOptions = {
  /** Of a login that is, or may become (`SET ROLE`), the owner. */
  url: string
  ownerRole: string
  schema: string
  /** Folder of numbered SQL files, `0001_chain.sql`, each run once, in order, in one transaction with those that follow. */
  dir: string
  onLog?: (line: string) => void
}

/**
 * Brings a database's schema up to date as its owner. Several processes may call it at once: an advisory lock lets one work while the
 * others wait and then find nothing to do.
 * @returns names of the migrations that ran
 */
export async function migrate(options: MigrateOptions): Promise<string[]> {
  const client = new pg.Client({
    connectionString: options.url,
    connectionTimeoutMillis: 10_000,
    application_name: 'signet-migrate',
  })
  client.on('error', () => undefined)
  try {
    await client.connect()
    await client.query(`SET ROLE ${pg.escapeIdentifier(options.ownerRole)}`)
    // The audit wall's event triggers refuse definitions outside of a migration, and log those inside of one.
    await client.query("SELECT set_config('signet.migration', 'on', false)")
    const log = (line: string): void => options.onLog?.(line)
    const ran = await runner({
      dbClient: client,
      dir: options.dir,
      direction: 'up',
      schema: options.schema,
      createSchema: true,
      migrationsTable: 'schema_migrations',
      singleTransaction: true,
      advisoryLockMode: 'wait',
      logger: { info: log, warn: log, error: log, debug: () => undefined },
    })
    return ran.map((migration) => migration.name)
  } catch (error) {
    throw unavailable(error) ?? error
  } finally {
    await client.end().catch(() => undefined)
  }
}
