import type { Client } from '#runtime/postgres/transaction.ts'
import type { Permission } from '../access/permission.ts'

/** What the access store says of itself, for checks: counts and forms, no names of people. */
export type AccessFacts = {
  readonly tables: readonly { readonly name: string; readonly forced: boolean }[]
  readonly roles: readonly { readonly name: string; readonly permissions: readonly Permission[] }[]
  readonly bindings: number
  readonly users: readonly {
    readonly active: boolean
    readonly mfa: boolean
    readonly password: 'none' | 'strong' | 'weak'
    /** Since the last sign-in, or since it was made. */
    readonly idleDays: number
    readonly permissions: readonly Permission[]
  }[]
  readonly tokens: { readonly active: number; readonly longestDays: number }
  readonly actions: { readonly total: number; readonly oldestOpenMs: number | null }
}

export async function findAccessFacts(client: Client, tenant: string): Promise<AccessFacts> {
  const rows = async <R extends object>(sql: string): Promise<R[]> => (await client.query<R>(sql, [tenant])).rows
  const tables = await rows<AccessFacts['tables'][number]>(
    `SELECT c.relname AS name, c.relrowsecurity AND c.relforcerowsecurity AS forced FROM pg_class c
     JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = 'tenant' AND NOT a.attisdropped
     WHERE c.relnamespace = 'signet'::regnamespace AND c.relkind IN ('r', 'p') AND c.relname <> 'tenants' AND $1::text IS NOT NULL ORDER BY 1`,
  )
  const permissions = (
    role: string,
  ): string => `(SELECT coalesce(json_agg(json_build_object('action', p.action, 'resource', p.resource, 'extent', p.extent)), '[]')
    FROM signet.role_permissions p WHERE p.tenant = $1 AND p.role_id ${role})`
  const roles = await rows<AccessFacts['roles'][number]>(
    `SELECT r.name, ${permissions('= r.id')} AS permissions FROM signet.roles r WHERE r.tenant = $1`,
  )
  const users = await rows<AccessFacts['users'][number]>(
    `SELECT u.state = 'active' AS active, u.mfa_enabled AS mfa,
       CASE WHEN u.password IS NULL THEN 'none' WHEN u.password ~ '^\\$argon2id\\$v=19\\$m=(19456|[2-9][0-9]{4}|[1-9][0-9]{5,6}),' THEN 'strong' ELSE 'weak' END AS password,
       floor(extract(epoch FROM now() - greatest(u.created_at, (SELECT max(t.created_at) FROM signet.tokens t
         WHERE t.tenant = $1 AND t.kind = 'session' AND t.principal_kind = 'user' AND t.principal_id = u.id))) / 86400)::int AS "idleDays",
       ${permissions("IN (SELECT b.role_id FROM signet.role_bindings b WHERE b.tenant = $1 AND b.principal_kind = 'user' AND b.principal_id = u.id)")} AS permissions
     FROM signet.users u WHERE u.tenant = $1`,
  )
  const [tokens] = await rows<AccessFacts['tokens']>(
    `SELECT count(*)::int AS active, coalesce(ceil(max(extract(epoch FROM expires_at - created_at)) / 86400), 0)::int AS "longestDays"
     FROM signet.tokens WHERE tenant = $1 AND kind = 'api' AND revoked_at IS NULL AND expires_at > now()`,
  )
  const [actions] = await rows<AccessFacts['actions']>(
    `SELECT count(*)::int AS total, floor(extract(epoch FROM now() - min(started_at) FILTER (WHERE recorded_at IS NULL)) * 1000)::float8 AS "oldestOpenMs"
     FROM signet.actions WHERE tenant = $1`,
  )
  const [bindings] = await rows<{ count: number }>(
    'SELECT count(*)::int AS count FROM signet.role_bindings WHERE tenant = $1',
  )
  return {
    tables,
    roles,
    users,
    bindings: bindings?.count ?? 0,
    tokens: tokens ?? { active: 0, longestDays: 0 },
    actions: actions ?? { total: 0, oldestOpenMs: null },
  }
}
