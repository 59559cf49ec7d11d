import type { Client } from '#runtime/postgres/transaction.ts'
import type { PrincipalKind } from '../access/principal.ts'

/** `version`: each change of the account makes it another. */
export type Named = { readonly kind: PrincipalKind; readonly id: string; readonly version: number }

/** Users whose e-mail address, and service accounts whose name, is `name`; or whose id it is. */
export async function principalsNamed(client: Client, tenant: string, name: string): Promise<Named[]> {
  const { rows } = await client.query<Named>(
    `SELECT 'user' AS kind, id, version FROM signet.users WHERE tenant = $1 AND (lower(email) = lower($2) OR id::text = $2)
     UNION ALL SELECT 'service_account', id, version FROM signet.service_accounts WHERE tenant = $1 AND (name = $2 OR id::text = $2)`,
    [tenant, name],
  )
  return rows
}

/** As they are now; those that are gone are left out. Locked until the transaction ends. */
export async function principalsById(
  client: Client,
  tenant: string,
  principals: readonly Pick<Named, 'kind' | 'id'>[],
): Promise<(Named & { readonly name: string })[]> {
  const ids = (wanted: PrincipalKind): string[] => principals.filter(({ kind }) => kind === wanted).map(({ id }) => id)
  const users = await client.query<Named & { name: string }>(
    `SELECT 'user' AS kind, id, version, email AS name FROM signet.users WHERE tenant = $1 AND id = ANY($2) FOR UPDATE`,
    [tenant, ids('user')],
  )
  const accounts = await client.query<Named & { name: string }>(
    `SELECT 'service_account' AS kind, id, version, name FROM signet.service_accounts WHERE tenant = $1 AND id = ANY($2) FOR UPDATE`,
    [tenant, ids('service_account')],
  )
  return [...users.rows, ...accounts.rows]
}

/** Tokens and sessions of theirs that count. */
export async function activeTokens(
  client: Client,
  tenant: string,
  principals: readonly Pick<Named, 'id'>[],
): Promise<number> {
  const { rows } = await client.query<{ count: number }>(
    `SELECT count(*)::int AS count FROM signet.tokens WHERE tenant = $1 AND principal_id = ANY($2) AND revoked_at IS NULL AND expires_at > now()`,
    [tenant, principals.map(({ id }) => id)],
  )
  return rows[0]?.count ?? 0
}

/** @returns the ids of those that it ended */
export async function revokeTokens(
  client: Client,
  tenant: string,
  principals: readonly Pick<Named, 'id'>[],
): Promise<string[]> {
  const { rows } = await client.query<{ id: string }>(
    `UPDATE signet.tokens SET revoked_at = now() WHERE tenant = $1 AND principal_id = ANY($2) AND revoked_at IS NULL AND expires_at > now() RETURNING id`,
    [tenant, principals.map(({ id }) => id)],
  )
  return rows.map(({ id }) => id)
}

/** Lets tokens count again that were ended and have not run out. @returns how many */
export async function restoreTokens(client: Client, tenant: string, ids: readonly string[]): Promise<number> {
  const { rowCount } = await client.query(
    `UPDATE signet.tokens SET revoked_at = NULL WHERE tenant = $1 AND id = ANY($2) AND revoked_at IS NOT NULL AND expires_at > now()`,
    [tenant, ids],
  )
  return rowCount ?? 0
}

/** Of these, the service accounts that were active: an agent is one. @returns their ids */
export async function disableServiceAccounts(
  client: Client,
  tenant: string,
  principals: readonly Named[],
): Promise<string[]> {
  const { rows } = await client.query<{ id: string }>(
    `UPDATE signet.service_accounts SET state = 'disabled', version = version + 1, updated_at = now()
     WHERE tenant = $1 AND id = ANY($2) AND state = 'active' RETURNING id`,
    [tenant, principals.filter(({ kind }) => kind === 'service_account').map(({ id }) => id)],
  )
  return rows.map(({ id }) => id)
}

/** @returns how many were disabled */
export async function enableServiceAccounts(client: Client, tenant: string, ids: readonly string[]): Promise<number> {
  const { rowCount } = await client.query(
    `UPDATE signet.service_accounts SET state = 'active', version = version + 1, updated_at = now()
     WHERE tenant = $1 AND id = ANY($2) AND state = 'disabled'`,
    [tenant, ids],
  )
  return rowCount ?? 0
}

/** Whether one of them may do everything: then a report must not be enough to shut them out. */
export async function haveAdministrator(
  client: Client,
  tenant: string,
  principals: readonly Pick<Named, 'id'>[],
): Promise<boolean> {
  const { rowCount } = await client.query(
    `SELECT 1 FROM signet.role_bindings b JOIN signet.role_permissions p ON p.tenant = b.tenant AND p.role_id = b.role_id
     WHERE b.tenant = $1 AND b.principal_id = ANY($2) AND p.action = '*' AND p.resource = '*' LIMIT 1`,
    [tenant, principals.map(({ id }) => id)],
  )
  return rowCount !== 0
}
