import type { Client } from '#runtime/postgres/transaction.ts'
import type { PrincipalKind } from '../access/principal.ts'

type Named = { readonly kind: PrincipalKind; readonly id: string }

/** Users whose e-mail address, and service accounts whose name, is `name`; or whose id it is. */
export async function principalsNamed(client: Client, tenant: string, name: string): Promise<Named[]> {
  const { rows } = await client.query<Named>(
    `SELECT 'user' AS kind, id FROM signet.users WHERE tenant = $1 AND (lower(email) = lower($2) OR id::text = $2)
     UNION ALL SELECT 'service_account', id FROM signet.service_accounts WHERE tenant = $1 AND (name = $2 OR id::text = $2)`,
    [tenant, name],
  )
  return rows
}

/** Tokens and sessions of theirs that count. */
export async function activeTokens(client: Client, tenant: string, principals: readonly Named[]): Promise<number> {
  const { rows } = await client.query<{ count: number }>(
    `SELECT count(*)::int AS count FROM signet.tokens WHERE tenant = $1 AND principal_id = ANY($2) AND revoked_at IS NULL AND expires_at > now()`,
    [tenant, principals.map(({ id }) => id)],
  )
  return rows[0]?.count ?? 0
}

export async function revokeTokens(client: Client, tenant: string, principals: readonly Named[]): Promise<number> {
  const { rowCount } = await client.query(
    `UPDATE signet.tokens SET revoked_at = now() WHERE tenant = $1 AND principal_id = ANY($2) AND revoked_at IS NULL AND expires_at > now()`,
    [tenant, principals.map(({ id }) => id)],
  )
  return rowCount ?? 0
}

/** Of these, the service accounts: an agent is one. */
export async function disableServiceAccount(
  client: Client,
  tenant: string,
  principals: readonly Named[],
): Promise<number> {
  const { rowCount } = await client.query(
    `UPDATE signet.service_accounts SET state = 'disabled', version = version + 1, updated_at = now()
     WHERE tenant = $1 AND id = ANY($2) AND state = 'active'`,
    [tenant, principals.filter(({ kind }) => kind === 'service_account').map(({ id }) => id)],
  )
  return rowCount ?? 0
}

/** Whether one of them may do everything: then a report must not be enough to shut them out. */
export async function haveAdministrator(
  client: Client,
  tenant: string,
  principals: readonly Named[],
): Promise<boolean> {
  const { rowCount } = await client.query(
    `SELECT 1 FROM signet.role_bindings b JOIN signet.role_permissions p ON p.tenant = b.tenant AND p.role_id = b.role_id
     WHERE b.tenant = $1 AND b.principal_id = ANY($2) AND p.action = '*' AND p.resource = '*' LIMIT 1`,
    [tenant, principals.map(({ id }) => id)],
  )
  return rowCount !== 0
}
