import type { JsonObject } from '#core/json/value.ts'
import type { Client } from '#runtime/postgres/transaction.ts'

export type UserFacts = {
  readonly id: string
  readonly state: string
  readonly mfa_enabled: boolean
  /** `none`, `strong` (argon2id of at least OWASP's cost) or `weak`. */
  readonly password: string
  readonly idle_days: number
  readonly roles: readonly string[]
}

/** Users whose facts a scan looks at; more are cut, loudly (`limit` + 1). */
export const MAX_SCANNED_USERS = 20_000

/** Of one user, or of all, in the order of ids. */
export async function findUserFacts(client: Client, tenant: string, userId: string | null): Promise<UserFacts[]> {
  const { rows } = await client.query<UserFacts>(
    `SELECT u.id, u.state, u.mfa_enabled,
       CASE WHEN u.password IS NULL THEN 'none' WHEN u.password ~ '^\\$argon2id\\$v=19\\$m=(19456|[2-9][0-9]{4}|[1-9][0-9]{5,6}),' THEN 'strong' ELSE 'weak' END AS password,
       floor(extract(epoch FROM now() - greatest(u.created_at, s.last)) / 86400)::int AS idle_days,
       coalesce(r.names, '[]') AS roles
     FROM signet.users u
     LEFT JOIN LATERAL (SELECT max(t.created_at) AS last FROM signet.tokens t
       WHERE t.tenant = u.tenant AND t.kind = 'session' AND t.principal_kind = 'user' AND t.principal_id = u.id) s ON true
     LEFT JOIN LATERAL (SELECT json_agg(r.name ORDER BY r.name) AS names FROM signet.role_bindings b
       JOIN signet.roles r ON r.tenant = b.tenant AND r.id = b.role_id
       WHERE b.tenant = u.tenant AND b.principal_kind = 'user' AND b.principal_id = u.id) r ON true
     WHERE u.tenant = $1 AND ($3::uuid IS NULL OR u.id = $3) ORDER BY u.id LIMIT $2`,
    [tenant, MAX_SCANNED_USERS + 1, userId],
  )
  return rows
}

/** What PostgreSQL says of itself and of the login that governance has. */
export async function findDatabaseFacts(client: Client): Promise<JsonObject> {
  const { rows: settings } = await client.query<{ name: string; setting: string }>(
    `SELECT name, setting FROM pg_settings WHERE name = ANY($1)`,
    [
      [
        'data_checksums',
        'fsync',
        'full_page_writes',
        'log_connections',
        'password_encryption',
        'ssl',
        'synchronous_commit',
      ],
    ],
  )
  const { rows } = await client.query<JsonObject>(
    `SELECT r.rolsuper AS login_is_superuser, r.rolbypassrls AS login_bypasses_row_security, r.rolcreaterole AS login_makes_roles,
       coalesce((SELECT s.ssl FROM pg_stat_ssl s WHERE s.pid = pg_backend_pid()), false) AS connection_encrypted,
       current_setting('server_version_num')::int / 10000 AS major_version
     FROM pg_roles r WHERE r.rolname = session_user`,
  )
  return { ...Object.fromEntries(settings.map(({ name, setting }) => [name, setting])), ...rows[0] }
}
