import pg from 'pg'
import { SignetError } from '#core/error/signet-error.ts'

export type Pool = pg.Pool
export type Client = pg.PoolClient

export type PoolOptions = {
  url: string
  /** Connections at most. */
  size: number
  applicationName: string
  /** A statement that runs longer is cancelled by the server. */
  statementTimeoutMs?: number
  /** An idle connection broke; the pool replaces it. Without a listener it would end the process. */
  onIdleError?: (error: Error) => void
}

export function createPool(options: PoolOptions): Pool {
  const pool = new pg.Pool({
    connectionString: options.url,
    max: options.size,
    application_name: options.applicationName,
    connectionTimeoutMillis: 5_000,
    idleTimeoutMillis: 30_000,
    statement_timeout: options.statementTimeoutMs ?? 30_000,
    // Above the server's own limit: for a server that does not answer at all.
    query_timeout: (options.statementTimeoutMs ?? 30_000) + 5_000,
    idle_in_transaction_session_timeout: 60_000,
    keepAlive: true,
  })
  // A connection that breaks while somebody has it: the query under way rejects, and without a listener the process would end too.
  pool.on('connect', (client) => client.on('error', ignore))
  pool.on('error', (error) => {
    // pg hangs the whole client on it, with the secret that cancels its queries: not for a log.
    if ('client' in error) delete error.client
    options.onIdleError?.(error)
  })
  return pool
}

/**
 * Runs `fn` in one transaction that sees one tenant's rows only: row level security compares `signet.tenant`, set for this
 * transaction alone. Commits when `fn` resolves; rolls back when it throws.
 * @throws what `fn` throws; DATABASE_UNAVAILABLE when there is no server to talk to. After a failed COMMIT the outcome is
 * unknown: a caller has to be able to do the same again.
 */
export async function withTenant<T>(
  pool: Pool,
  tenant: string,
  fn: (client: Client) => Promise<T>,
  /** `snapshot`: sees the same rows from beginning to end. `also`: SQL expressions, constant, that are evaluated as the tenant is set; `$1` is the tenant. */
  options: { readOnly?: boolean; snapshot?: boolean; also?: string } = {},
): Promise<T> {
  let client: Client | undefined
  let broken: Error | undefined
  let unreplicated = false
  // What the server calls a success with a warning: somebody cancelled the wait for a synchronous standby. By the routine, which no locale translates.
  const onNotice = (notice: { readonly routine?: string | undefined }): void => {
    if (notice.routine === 'SyncRepWaitForLSN') unreplicated = true
  }
  try {
    client = await pool.connect()
    client.on('error', ignore)
    client.on('notice', onNotice)
    const snapshot = options.snapshot === true ? ' ISOLATION LEVEL REPEATABLE READ' : ''
    await client.query(`BEGIN${snapshot}${options.readOnly === true ? ' READ ONLY' : ''}`)
    const also = options.also === undefined ? '' : `, ${options.also}`
    await client.query(`SELECT set_config('signet.tenant', $1, true)${also}`, [tenant])
    const result = await fn(client)
    await client.query('COMMIT')
    if (unreplicated)
      throw new SignetError('DATABASE_UNAVAILABLE', 'the database committed without its standby; try again shortly')
    return result
  } catch (error) {
    // A server that did not answer in time would not answer ROLLBACK either; it rolls back when the connection is gone.
    if (error instanceof Error && error.message === QUERY_TIMED_OUT) broken = error
    else if (client !== undefined) {
      await client.query('ROLLBACK').catch((cause: unknown) => {
        broken = cause instanceof Error ? cause : new Error('rollback failed')
      })
    }
    throw unavailable(error) ?? error
  } finally {
    client?.removeListener('error', ignore)
    client?.removeListener('notice', onNotice)
    client?.release(broken ?? false)
  }
}

/** As `withTenant`, for databases without tenants in row level security. */
export async function query<R extends pg.QueryResultRow>(
  pool: Pool,
  text: string,
  values: unknown[] = [],
): Promise<R[]> {
  try {
    return (await pool.query<R>(text, values)).rows
  } catch (error) {
    throw unavailable(error) ?? error
  }
}

/**
 * Repeats work that the server gave up for the sake of others (serialization failure, deadlock), `attempts` times in all. Only for
 * work that is one transaction and nothing else, so that nothing of a failed attempt remains.
 */
export async function retryConflicts<T>(attempts: number, work: () => Promise<T>): Promise<T> {
  for (let attempt = 1; ; attempt++) {
    try {
      return await work()
    } catch (error) {
      const code = sqlState(error)
      if (attempt >= attempts || (code !== '40001' && code !== '40P01')) throw error
    }
  }
}

function sqlState(error: unknown): string | undefined {
  return error instanceof pg.DatabaseError ? error.code : undefined
}

const QUERY_TIMED_OUT = 'Query read timeout'
// Node's own codes, and those of pg's messages that carry none.
const NETWORK_CODES = new Set([
  'ECONNREFUSED',
  'ECONNRESET',
  'EPIPE',
  'ETIMEDOUT',
  'ENOTFOUND',
  'EAI_AGAIN',
  'EHOSTUNREACH',
  'ENETUNREACH',
])
const NETWORK_MESSAGES =
  /Connection terminated|timeout exceeded when trying to connect|Query read timeout|not queryable|Client was closed|Cannot use a pool/

/** The DATABASE_UNAVAILABLE that stands for this error, or null where the server did answer and the error is about the statement. */
export function unavailable(error: unknown): SignetError | null {
  if (error instanceof SignetError) return error.code === 'DATABASE_UNAVAILABLE' ? error : null
  const state = sqlState(error)
  // Class 08 connection, 53 resources (disk full, too many connections), 57P shutdown and crash, 57014 time-out, 25006 read-only standby.
  const byState = state !== undefined && /^(08|53|57P|57014|25006|25P03)/.test(state)
  const code = error instanceof Error && 'code' in error ? String(error.code) : ''
  const byNetwork =
    error instanceof AggregateError ||
    NETWORK_CODES.has(code) ||
    (error instanceof Error && NETWORK_MESSAGES.test(error.message))
  if (!byState && !byNetwork) return null
  return new SignetError(
    'DATABASE_UNAVAILABLE',
    `the database does not answer (${state ?? (code || 'no connection')}); try again shortly`,
    {
      cause: error,
    },
  )
}

function ignore(): void {
  // The query that was under way rejects with the same error.
}
