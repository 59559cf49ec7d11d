import pg from 'pg'
import { unavailable } from './transaction.ts'

export type ProvisionOptions = {
  /** Of a superuser, in any database of the server. */
  adminUrl: string
  database: string
  /** Owns database, schema and tables; cannot log in. */
  ownerRole: string
  /** What the process logs in as; gets nothing but CONNECT here, the migrations grant the rest. */
  loginRole: string
  loginPassword: string
}

/**
 * Makes roles and database where they are missing and sets the login's password: what a database administrator does by hand for a
 * server of one's own (`docs/reference/audit.md`). Nobody but the owner may create anything in it, temporary tables included.
 */
export async function provisionDatabase(options: ProvisionOptions): Promise<void> {
  const client = new pg.Client({
    connectionString: options.adminUrl,
    connectionTimeoutMillis: 10_000,
    application_name: 'signet-provision',
  })
  client.on('error', () => undefined)
  const [database, owner, login] = [options.database, options.ownerRole, options.loginRole].map((name) =>
    pg.escapeIdentifier(name),
  )
  try {
    await client.connect()
    const has = async (sql: string, name: string): Promise<boolean> => (await client.query(sql, [name])).rows.length > 0
    if (!(await has('SELECT 1 FROM pg_roles WHERE rolname = $1', options.ownerRole)))
      await client.query(`CREATE ROLE ${owner} NOLOGIN`)
    if (!(await has('SELECT 1 FROM pg_roles WHERE rolname = $1', options.loginRole)))
      await client.query(`CREATE ROLE ${login}`)
    await client.query(
      `ALTER ROLE ${login} LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS PASSWORD ${pg.escapeLiteral(options.loginPassword)}`,
    )
    if (!(await has('SELECT 1 FROM pg_database WHERE datname = $1', options.database))) {
      await client.query(`CREATE DATABASE ${database} OWNER ${owner}`)
    }
    await client.query(`REVOKE ALL ON DATABASE ${database} FROM PUBLIC`)
    await client.query(`GRANT CONNECT ON DATABASE ${database} TO ${login}`)
  } catch (error) {
    throw unavailable(error) ?? error
  } finally {
    await client.end().catch(() => undefined)
  }
}
