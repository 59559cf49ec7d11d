import type { Client } from '#runtime/postgres/transaction.ts'
import type { Permission } from '../access/permission.ts'
import type { PrincipalKind } from '../access/principal.ts'
import type { Cursor } from './paging.ts'

export type UserRow = {
  id: string
  email: string
  name: string
  state: 'active' | 'disabled'
  mfa_enabled: boolean
  version: number
  created_at: Date
  updated_at: Date
}
export type ServiceAccountRow = {
  id: string
  name: string
  description: string
  state: 'active' | 'disabled'
  version: number
  created_at: Date
  updated_at: Date
}
export type RoleRow = {
  id: string
  name: string
  description: string
  shipped: boolean
  version: number
  permissions: Permission[]
  created_at: Date
  updated_at: Date
}
export type BindingRow = {
  id: string
  role_id: string
  role: string
  principal_kind: PrincipalKind
  principal_id: string
  created_at: Date
}
export type TokenRow = {
  id: string
  name: string
  principal_kind: PrincipalKind
  principal_id: string
  scopes: string[] | null
  created_at: Date
  expires_at: Date
  revoked_at: Date | null
}
type Where = { readonly cursor: Cursor | null; readonly limit: number }

const USER = 'id, email, name, state, mfa_enabled, version, created_at, updated_at'
const SERVICE_ACCOUNT = 'id, name, description, state, version, created_at, updated_at'
const ROLE = `r.id, r.name, r.description, r.shipped, r.version, r.created_at, r.updated_at,
  (SELECT coalesce(json_agg(json_build_object('action', p.action, 'resource', p.resource, 'extent', p.extent) ORDER BY p.resource, p.action), '[]')
   FROM signet.role_permissions p WHERE p.tenant = r.tenant AND p.role_id = r.id) AS permissions`
const TOKEN = 'id, name, principal_kind, principal_id, scopes, created_at, expires_at, revoked_at'

/** One more than `limit`, so that it is known whether there is a next page. */
const PAGE = '($2::timestamptz IS NULL OR (created_at, id) < ($2, $3)) ORDER BY created_at DESC, id DESC LIMIT $4'
const pageValues = (tenant: string, { cursor, limit }: Where): unknown[] => [
  tenant,
  cursor?.at ?? null,
  cursor?.id ?? null,
  limit + 1,
]

export async function listUsers(client: Client, tenant: string, where: Where): Promise<UserRow[]> {
  const sql = `SELECT ${USER} FROM signet.users WHERE tenant = $1 AND ${PAGE}`
  return (await client.query<UserRow>(sql, pageValues(tenant, where))).rows
}

/** `lock`: as it is until the transaction ends. */
export async function findUser(client: Client, tenant: string, id: string, lock = false): Promise<UserRow | null> {
  const sql = `SELECT ${USER} FROM signet.users WHERE tenant = $1 AND id = $2${lock ? ' FOR UPDATE' : ''}`
  return (await client.query<UserRow>(sql, [tenant, id])).rows[0] ?? null
}

/** Null where the address is taken. */
export async function insertUser(
  client: Client,
  tenant: string,
  user: { id: string; email: string; name: string; password: string | null },
): Promise<UserRow | null> {
  const { rows } = await client.query<UserRow>(
    `INSERT INTO signet.users (tenant, id, email, name, password) VALUES ($1, $2, $3, $4, $5)
     ON CONFLICT (tenant, lower(email)) DO NOTHING RETURNING ${USER}`,
    [tenant, user.id, user.email, user.name, user.password],
  )
  return rows[0] ?? null
}

export async function updateUser(
  client: Client,
  tenant: string,
  id: string,
  change: { name: string; state: string; mfa_enabled: boolean },
): Promise<UserRow> {
  const { rows } = await client.query<UserRow>(
    `UPDATE signet.users SET name = $3, state = $4, mfa_enabled = $5, version = version + 1, updated_at = now()
     WHERE tenant = $1 AND id = $2 RETURNING ${USER}`,
    [tenant, id, change.name, change.state, change.mfa_enabled],
  )
  return rows[0] as UserRow
}

export async function setPassword(client: Client, tenant: string, id: string, password: string): Promise<void> {
  await client.query(
    `UPDATE signet.users SET password = $3, failed_logins = 0, locked_until = NULL, version = version + 1, updated_at = now()
     WHERE tenant = $1 AND id = $2`,
    [tenant, id, password],
  )
}

export async function listServiceAccounts(client: Client, tenant: string, where: Where): Promise<ServiceAccountRow[]> {
  const sql = `SELECT ${SERVICE_ACCOUNT} FROM signet.service_accounts WHERE tenant = $1 AND ${PAGE}`
  return (await client.query<ServiceAccountRow>(sql, pageValues(tenant, where))).rows
}

export async function findServiceAccount(
  client: Client,
  tenant: string,
  id: string,
  lock = false,
): Promise<ServiceAccountRow | null> {
  const sql = `SELECT ${SERVICE_ACCOUNT} FROM signet.service_accounts WHERE tenant = $1 AND id = $2${lock ? ' FOR UPDATE' : ''}`
  return (await client.query<ServiceAccountRow>(sql, [tenant, id])).rows[0] ?? null
}

/** Null where the name is taken. */
export async function findServiceAccountByName(
  client: Client,
  tenant: string,
  name: string,
): Promise<ServiceAccountRow | null> {
  const { rows } = await client.query<ServiceAccountRow>(
    `SELECT ${SERVICE_ACCOUNT} FROM signet.service_accounts WHERE tenant = $1 AND name = $2`,
    [tenant, name],
  )
  return rows[0] ?? null
}

export async function insertServiceAccount(
  client: Client,
  tenant: string,
  account: { id: string; name: string; description: string },
): Promise<ServiceAccountRow | null> {
  const { rows } = await client.query<ServiceAccountRow>(
    `INSERT INTO signet.service_accounts (tenant, id, name, description) VALUES ($1, $2, $3, $4)
     ON CONFLICT (tenant, name) DO NOTHING RETURNING ${SERVICE_ACCOUNT}`,
    [tenant, account.id, account.name, account.description],
  )
  return rows[0] ?? null
}

export async function updateServiceAccount(
  client: Client,
  tenant: string,
  id: string,
  change: { description: string; state: string },
): Promise<ServiceAccountRow> {
  const { rows } = await client.query<ServiceAccountRow>(
    `UPDATE signet.service_accounts SET description = $3, state = $4, version = version + 1, updated_at = now()
     WHERE tenant = $1 AND id = $2 RETURNING ${SERVICE_ACCOUNT}`,
    [tenant, id, change.description, change.state],
  )
  return rows[0] as ServiceAccountRow
}

export async function listRoles(client: Client, tenant: string): Promise<RoleRow[]> {
  const sql = `SELECT ${ROLE} FROM signet.roles r WHERE r.tenant = $1 ORDER BY r.shipped DESC, r.name`
  return (await client.query<RoleRow>(sql, [tenant])).rows
}

export async function findRole(client: Client, tenant: string, id: string, lock = false): Promise<RoleRow | null> {
  if (lock) await client.query('SELECT 1 FROM signet.roles WHERE tenant = $1 AND id = $2 FOR UPDATE', [tenant, id])
  const sql = `SELECT ${ROLE} FROM signet.roles r WHERE r.tenant = $1 AND r.id = $2`
  return (await client.query<RoleRow>(sql, [tenant, id])).rows[0] ?? null
}

export async function findRoleByName(client: Client, tenant: string, name: string): Promise<RoleRow | null> {
  const sql = `SELECT ${ROLE} FROM signet.roles r WHERE r.tenant = $1 AND r.name = $2`
  return (await client.query<RoleRow>(sql, [tenant, name])).rows[0] ?? null
}

/** False where the name is taken. */
export async function insertRole(
  client: Client,
  tenant: string,
  role: { id: string; name: string; description: string; shipped: boolean },
): Promise<boolean> {
  const { rowCount } = await client.query(
    `INSERT INTO signet.roles (tenant, id, name, description, shipped) VALUES ($1, $2, $3, $4, $5) ON CONFLICT (tenant, name) DO NOTHING`,
    [tenant, role.id, role.name, role.description, role.shipped],
  )
  return rowCount === 1
}

export async function updateRole(client: Client, tenant: string, id: string, description: string): Promise<void> {
  await client.query(
    'UPDATE signet.roles SET description = $3, version = version + 1, updated_at = now() WHERE tenant = $1 AND id = $2',
    [tenant, id, description],
  )
}

export async function replacePermissions(
  client: Client,
  tenant: string,
  roleId: string,
  permissions: readonly Permission[],
): Promise<void> {
  await client.query('DELETE FROM signet.role_permissions WHERE tenant = $1 AND role_id = $2', [tenant, roleId])
  await client.query(
    `INSERT INTO signet.role_permissions (tenant, role_id, action, resource, extent)
     SELECT $1, $2, action, resource, extent FROM unnest($3::text[], $4::text[], $5::text[]) AS t(action, resource, extent)`,
    [
      tenant,
      roleId,
      permissions.map(({ action }) => action),
      permissions.map(({ resource }) => resource),
      permissions.map(({ extent }) => extent),
    ],
  )
}

export async function deleteRole(client: Client, tenant: string, id: string): Promise<void> {
  await client.query('DELETE FROM signet.roles WHERE tenant = $1 AND id = $2', [tenant, id])
}

const BINDING = `SELECT b.id, b.role_id, r.name AS role, b.principal_kind, b.principal_id, b.created_at
  FROM signet.role_bindings b JOIN signet.roles r ON r.tenant = b.tenant AND r.id = b.role_id`

export async function listBindings(
  client: Client,
  tenant: string,
  principal: { kind: PrincipalKind; id: string } | null,
): Promise<BindingRow[]> {
  const { rows } = await client.query<BindingRow>(
    `${BINDING} WHERE b.tenant = $1 AND ($2::text IS NULL OR (b.principal_kind = $2 AND b.principal_id = $3)) ORDER BY b.created_at, b.id LIMIT 10000`,
    [tenant, principal?.kind ?? null, principal?.id ?? null],
  )
  return rows
}

export async function findBinding(client: Client, tenant: string, id: string): Promise<BindingRow | null> {
  return (await client.query<BindingRow>(`${BINDING} WHERE b.tenant = $1 AND b.id = $2`, [tenant, id])).rows[0] ?? null
}

/** False where it is bound already. */
export async function insertBinding(
  client: Client,
  tenant: string,
  binding: { id: string; roleId: string; kind: PrincipalKind; principalId: string },
): Promise<boolean> {
  const { rowCount } = await client.query(
    `INSERT INTO signet.role_bindings (tenant, id, role_id, principal_kind, principal_id) VALUES ($1, $2, $3, $4, $5)
     ON CONFLICT (tenant, principal_kind, principal_id, role_id) DO NOTHING`,
    [tenant, binding.id, binding.roleId, binding.kind, binding.principalId],
  )
  return rowCount === 1
}

export async function deleteBinding(client: Client, tenant: string, id: string): Promise<void> {
  await client.query('DELETE FROM signet.role_bindings WHERE tenant = $1 AND id = $2', [tenant, id])
}

/** How many active principals may do everything. Locks the tenant's row, so that two who leave at once are counted one after the other. */
export async function countAdministrators(client: Client, tenant: string): Promise<number> {
  await client.query("SELECT pg_advisory_xact_lock(hashtextextended('signet.administrators/' || $1, 0))", [tenant])
  const { rows } = await client.query<{ count: string }>(
    `SELECT count(DISTINCT (b.principal_kind, b.principal_id)) FROM signet.role_bindings b
     JOIN signet.role_permissions p ON p.tenant = b.tenant AND p.role_id = b.role_id
     LEFT JOIN signet.users u ON b.principal_kind = 'user' AND u.tenant = b.tenant AND u.id = b.principal_id AND u.state = 'active'
     LEFT JOIN signet.service_accounts s ON b.principal_kind = 'service_account' AND s.tenant = b.tenant AND s.id = b.principal_id AND s.state = 'active'
     WHERE b.tenant = $1 AND p.action = '*' AND p.resource = '*' AND p.extent = 'all' AND (u.id IS NOT NULL OR s.id IS NOT NULL)`,
    [tenant],
  )
  return Number(rows[0]?.count ?? 0)
}

export async function insertToken(
  client: Client,
  tenant: string,
  token: {
    id: string
    kind: 'api' | 'session'
    name: string
    sha256: Buffer
    principal: { kind: PrincipalKind; id: string }
    scopes: readonly string[] | null
    expiresAt: Date
  },
): Promise<TokenRow> {
  const { rows } = await client.query<TokenRow>(
    `INSERT INTO signet.tokens (tenant, id, kind, name, sha256, principal_kind, principal_id, scopes, expires_at)
     VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) RETURNING ${TOKEN}`,
    [
      tenant,
      token.id,
      token.kind,
      token.name,
      token.sha256,
      token.principal.kind,
      token.principal.id,
      token.scopes === null ? null : JSON.stringify(token.scopes),
      token.expiresAt,
    ],
  )
  return rows[0] as TokenRow
}

/** `owner`: only theirs. Sessions are not listed. */
export async function listTokens(
  client: Client,
  tenant: string,
  where: Where & { owner: { kind: PrincipalKind; id: string } | null },
): Promise<TokenRow[]> {
  const sql = `SELECT ${TOKEN} FROM signet.tokens WHERE tenant = $1 AND kind = 'api'
    AND ($5::text IS NULL OR (principal_kind = $5 AND principal_id = $6)) AND ${PAGE}`
  return (
    await client.query<TokenRow>(sql, [
      ...pageValues(tenant, where),
      where.owner?.kind ?? null,
      where.owner?.id ?? null,
    ])
  ).rows
}

export async function findToken(client: Client, tenant: string, id: string, lock = false): Promise<TokenRow | null> {
  const sql = `SELECT ${TOKEN} FROM signet.tokens WHERE tenant = $1 AND id = $2${lock ? ' FOR UPDATE' : ''}`
  return (await client.query<TokenRow>(sql, [tenant, id])).rows[0] ?? null
}

export async function revokeToken(client: Client, tenant: string, id: string): Promise<void> {
  await client.query(
    'UPDATE signet.tokens SET revoked_at = now() WHERE tenant = $1 AND id = $2 AND revoked_at IS NULL',
    [tenant, id],
  )
}

/** All of somebody's, for instance when their password changes; but not `except`. */
export async function revokeTokensOf(
  client: Client,
  tenant: string,
  owner: { kind: PrincipalKind; id: string },
  options: { kind: 'session' | 'all'; except?: string },
): Promise<number> {
  const { rowCount } = await client.query(
    `UPDATE signet.tokens SET revoked_at = now() WHERE tenant = $1 AND principal_kind = $2 AND principal_id = $3
     AND revoked_at IS NULL AND ($4 = 'all' OR kind = $4) AND id IS DISTINCT FROM $5`,
    [tenant, owner.kind, owner.id, options.kind, options.except ?? null],
  )
  return rowCount ?? 0
}
