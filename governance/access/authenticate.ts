import { SignetError } from '#core/error/signet-error.ts'
import { bearerToken } from '#runtime/identity/bearer.ts'
import { query, withTenant, type Pool } from '#runtime/postgres/transaction.ts'
import type { Principal, PrincipalKind } from './principal.ts'
import { TOKEN_PATTERN, tokenDigest } from './token.ts'

/**
 * Who a bearer token stands for. Single sign-on comes in here: what an identity provider vouches for becomes a session token, and from
 * then on is looked up like any other.
 */
export type Authenticate = (authorization: string | undefined) => Promise<Principal>

type FoundToken = {
  tenant: string
  id: string
  principal_kind: PrincipalKind
  principal_id: string
  scopes: string[] | null
  expires_at: Date
  revoked_at: Date | null
}

const MAX_TOKEN_CHARS = 512

/** Looked up in the database for each request, so that a revocation holds at once and everywhere. */
export function createAuthenticate(pool: Pool, clock: () => Date): Authenticate {
  return async (authorization) => {
    const token = bearerToken(authorization, MAX_TOKEN_CHARS)
    const unknown = new SignetError('UNAUTHENTICATED', 'the token is not known here, was revoked or has expired')
    if (!TOKEN_PATTERN.test(token)) throw unknown
    const [found] = await query<FoundToken>(pool, 'SELECT * FROM signet.find_token($1)', [tokenDigest(token)])
    if (found === undefined || found.revoked_at !== null || found.expires_at <= clock()) throw unknown
    const { tenant, id: tokenId, principal_kind: kind, principal_id: id, scopes } = found
    const name = await nameOf(pool, tenant, kind, id)
    if (name === null) throw unknown
    return { tenant, kind, id, name, tokenId, scopes }
  }
}

/** What the log calls a principal; null for one that is disabled or gone. */
async function nameOf(pool: Pool, tenant: string, kind: PrincipalKind, id: string): Promise<string | null> {
  const sql =
    kind === 'user'
      ? "SELECT email AS name FROM signet.users WHERE tenant = $1 AND id = $2 AND state = 'active'"
      : "SELECT 'service-account:' || name AS name FROM signet.service_accounts WHERE tenant = $1 AND id = $2 AND state = 'active'"
  return withTenant(
    pool,
    tenant,
    async (client) => (await client.query<{ name: string }>(sql, [tenant, id])).rows[0]?.name ?? null,
    {
      readOnly: true,
    },
  )
}
