import { SignetError } from '#core/error/signet-error.ts'
import type { Client } from '#runtime/postgres/transaction.ts'
import {
  extentOf,
  firstNotHeld,
  formatPermission,
  type Action,
  type Extent,
  type Permission,
  type Resource,
} from './permission.ts'

export type PrincipalKind = 'user' | 'service_account'

/** Who asks. `name` is what the audit log calls them. `scopes`: what the token carries of their permissions; null for all. */
export type Principal = {
  readonly tenant: string
  readonly kind: PrincipalKind
  readonly id: string
  readonly name: string
  readonly tokenId: string
  readonly scopes: readonly string[] | null
}

export function isSame(a: Pick<Principal, 'kind' | 'id'>, b: Pick<Principal, 'kind' | 'id'>): boolean {
  return a.kind === b.kind && a.id === b.id
}

/**
 * What a principal may do now, in the transaction of `client`. With `lock`, the rows that say so stay as they are until it ends: a
 * revocation that comes first wins, and one that comes later waits.
 * @throws SignetError UNAUTHENTICATED when the token was revoked or the principal disabled meanwhile
 */
export async function permissionsOf(
  client: Client,
  principal: Principal,
  lock: boolean,
): Promise<readonly Permission[]> {
  const { tenant, kind, id, tokenId } = principal
  const share = lock ? ' FOR SHARE' : ''
  const table = kind === 'user' ? 'users' : 'service_accounts'
  const { rowCount } = await client.query(
    `SELECT 1 FROM signet.tokens t JOIN signet.${table} p ON p.tenant = t.tenant AND p.id = t.principal_id
     WHERE t.tenant = $1 AND t.id = $2 AND t.revoked_at IS NULL AND t.expires_at > now() AND p.state = 'active'${share}`,
    [tenant, tokenId],
  )
  if (rowCount === 0)
    throw new SignetError('UNAUTHENTICATED', 'this token no longer counts: it was revoked, or its owner disabled')
  return grantedTo(client, tenant, { kind, id }, share)
}

/**
 * Whoever can sign in as somebody can do what they can: so it takes all of their permissions to make a token or set a password for them.
 * @throws SignetError FORBIDDEN naming a permission that is missing
 */
export async function requireAtLeast(
  client: Client,
  rights: { readonly principal: Principal; readonly permissions: readonly Permission[] },
  other: Pick<Principal, 'kind' | 'id'>,
): Promise<void> {
  const { principal, permissions } = rights
  // A token that carries less than its owner has is not its owner: with a password it would become so.
  if (isSame(principal, other) && principal.scopes === null) return
  const theirs = await grantedTo(client, principal.tenant, other, ' FOR SHARE')
  requireHeld(principal, permissions, theirs)
}

/** @throws SignetError FORBIDDEN naming the first permission of `wanted` that is not held */
export function requireHeld(principal: Principal, held: readonly Permission[], wanted: readonly Permission[]): void {
  const missing = firstNotHeld(held, principal.scopes, wanted)
  if (missing === undefined) return
  const permission = formatPermission(missing)
  throw new SignetError('FORBIDDEN', `${principal.name} cannot give the permission ${permission} without having it`, {
    details: { permission },
  })
}

async function grantedTo(
  client: Client,
  tenant: string,
  { kind, id }: Pick<Principal, 'kind' | 'id'>,
  share: string,
): Promise<Permission[]> {
  const { rows } = await client.query<Permission>(
    `SELECT p.action, p.resource, p.extent
     FROM signet.role_bindings b
     JOIN signet.roles r ON r.tenant = b.tenant AND r.id = b.role_id
     JOIN signet.role_permissions p ON p.tenant = r.tenant AND p.role_id = r.id
     WHERE b.tenant = $1 AND b.principal_kind = $2 AND b.principal_id = $3${share}`,
    [tenant, kind, id],
  )
  return rows
}

/**
 * What a call takes. `ownCounts`: it can tell what is one's own, and keeps to that; everywhere else a permission on one's own is none, since
 * it would be one on everything.
 */
export type Needed = { readonly action: Action; readonly resource: Resource; readonly ownCounts?: boolean }

/**
 * How far a principal's permissions reach for what is needed.
 * @throws SignetError FORBIDDEN naming the permission that is missing
 */
export function requireExtent(
  principal: Principal,
  permissions: readonly Permission[],
  { action, resource, ownCounts = false }: Needed,
): Extent {
  const suffices = (extent: Extent | null): extent is Extent => extent === 'all' || (ownCounts && extent === 'own')
  const extent = extentOf(permissions, principal.scopes, action, resource)
  if (suffices(extent)) return extent
  const missing = formatPermission({ action, resource, extent: 'all' })
  const byToken = suffices(extentOf(permissions, null, action, resource))
  throw new SignetError(
    'FORBIDDEN',
    byToken
      ? `this token does not carry the permission ${missing}, which ${principal.name} has`
      : `${principal.name} lacks the permission ${missing}`,
    { details: { permission: missing } },
  )
}
