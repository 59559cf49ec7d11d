import pg from 'pg'
import { SignetError } from '#core/error/signet-error.ts'
import { unavailable, withTenant, type Client, type Pool } from '#runtime/postgres/transaction.ts'
import { OWNER_ROLE } from '../store/migrations.ts'
import {
  findRoleByName,
  findServiceAccountByName,
  insertBinding,
  insertRole,
  insertServiceAccount,
  insertToken,
  insertUser,
  replacePermissions,
} from '../store/access.ts'
import { formatPermission, type Permission } from './permission.ts'
import { hashPassword } from './password.ts'
import { SHIPPED_ROLES } from './shipped-roles.ts'
import { newToken } from './token.ts'

export type NewTenant = {
  readonly tenant: string
  readonly name: string
  readonly admin: { readonly email: string; readonly name: string; readonly password: string | null }
}
type Deps = { readonly newId: () => string; readonly clock: () => Date }

const FIRST_TOKEN_MS = 24 * 60 * 60 * 1000

/**
 * Makes a tenant with the shipped roles and its first user, an Admin: what whoever runs Signet does, as the database's owner, since nobody in a
 * tenant may make another. A tenant that is there keeps its users; only roles are brought up to date.
 * @returns a token of the first user for a day; null where the tenant was there
 */
export async function ensureTenant(ownerUrl: string, made: NewTenant, deps: Deps): Promise<string | null> {
  const password = made.admin.password === null ? null : await hashPassword(made.admin.password)
  const client = new pg.Client({
    connectionString: ownerUrl,
    connectionTimeoutMillis: 10_000,
    application_name: 'signet-tenant',
  })
  client.on('error', () => undefined)
  try {
    await client.connect()
    await client.query(`SET ROLE ${pg.escapeIdentifier(OWNER_ROLE)}`)
    await client.query('BEGIN')
    await client.query("SELECT set_config('signet.tenant', $1, true)", [made.tenant])
    const { rowCount } = await client.query(
      'INSERT INTO signet.tenants (tenant, name) VALUES ($1, $2) ON CONFLICT (tenant) DO NOTHING',
      [made.tenant, made.name],
    )
    await seedRoles(client as unknown as Client, made.tenant, deps)
    const token = rowCount === 0 ? null : await makeAdmin(client as unknown as Client, made, password, deps)
    await client.query('COMMIT')
    return token
  } catch (error) {
    throw unavailable(error) ?? error
  } finally {
    await client.end().catch(() => undefined)
  }
}

const BUNDLE_TOKEN_MS = 366 * 24 * 60 * 60 * 1000
const PROXIES = 'proxies'

/** A token that gets a tenant's bundle and nothing else, for a year: of its service account `proxies`, which is made where it is not there. */
export async function makeBundleToken(pool: Pool, tenant: string, { newId, clock }: Deps): Promise<string> {
  return withTenant(pool, tenant, async (client) => {
    const known = await findServiceAccountByName(client, tenant, PROXIES)
    const account =
      known ??
      (await insertServiceAccount(client, tenant, {
        id: newId(),
        name: PROXIES,
        description: 'What proxies get their bundle as.',
      }))
    const role = await findRoleByName(client, tenant, 'Viewer')
    if (account === null || role === null)
      throw new SignetError('INTERNAL', 'the account of the proxies could not be made')
    const principal = { kind: 'service_account', id: account.id } as const
    if (known === null)
      await insertBinding(client, tenant, {
        id: newId(),
        roleId: role.id,
        kind: principal.kind,
        principalId: account.id,
      })
    const { token, sha256 } = newToken()
    const expiresAt = new Date(clock().getTime() + BUNDLE_TOKEN_MS)
    const scopes = ['read:policies']
    await insertToken(client, tenant, {
      id: newId(),
      kind: 'api',
      name: 'bundle',
      sha256,
      principal,
      scopes,
      expiresAt,
    })
    return token
  })
}

/** Every tenant's shipped roles say what this release says. */
export async function seedAllRoles(pool: Pool, tenants: readonly string[], deps: Deps): Promise<void> {
  for (const tenant of tenants) await withTenant(pool, tenant, (client) => seedRoles(client, tenant, deps))
}

async function seedRoles(client: Client, tenant: string, { newId }: Deps): Promise<void> {
  // One process after the other: two that start at once would replace each other's rows.
  await client.query("SELECT pg_advisory_xact_lock(hashtextextended('signet.roles/' || $1, 0))", [tenant])
  for (const { name, description, permissions } of SHIPPED_ROLES) {
    await insertRole(client, tenant, { id: newId(), name, description, shipped: true })
    const role = await findRoleByName(client, tenant, name)
    // A tenant may have had a role of that name before it was shipped: it stays theirs.
    if (role === null || !role.shipped || isSameSet(role.permissions, permissions)) continue
    await replacePermissions(client, tenant, role.id, permissions)
  }
}

async function makeAdmin(
  client: Client,
  { tenant, admin }: NewTenant,
  password: string | null,
  { newId, clock }: Deps,
): Promise<string> {
  const user = await insertUser(client, tenant, { id: newId(), email: admin.email, name: admin.name, password })
  const role = await findRoleByName(client, tenant, 'Admin')
  if (user === null || role === null) throw new SignetError('INTERNAL', 'the first user of a tenant could not be made')
  const principal = { kind: 'user', id: user.id } as const
  await insertBinding(client, tenant, { id: newId(), roleId: role.id, kind: 'user', principalId: user.id })
  const { token, sha256 } = newToken()
  const expiresAt = new Date(clock().getTime() + FIRST_TOKEN_MS)
  await insertToken(client, tenant, {
    id: newId(),
    kind: 'api',
    name: 'first token',
    sha256,
    principal,
    scopes: null,
    expiresAt,
  })
  return token
}

function isSameSet(a: readonly Permission[], b: readonly Permission[]): boolean {
  const names = new Set(a.map(formatPermission))
  return a.length === b.length && b.every((permission) => names.has(formatPermission(permission)))
}
