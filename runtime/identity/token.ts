import { createHash, timingSafeEqual } from 'node:crypto'
import Type from 'typebox'
import { Compile } from 'typebox/compile'
import { SignetError } from '#core/error/signet-error.ts'
import type { IdentityClaims } from '#core/identity/namespace-map.ts'
import { bearerToken } from './bearer.ts'
import type { ReviewedPod } from './service-account.ts'

const Name = Type.String({ minLength: 1, maxLength: 512 })

/**
 * The token file: who may call, as what. It holds digests only, so reading it gives nobody access. `producer_id` is what the
 * caller writes as (absent: it writes nothing); `scopes` are what it may do, for example `audit:write`, `audit:read`.
 */
export const TokenFile = Type.Object(
  {
    version: Type.Literal(1),
    tokens: Type.Array(
      Type.Object(
        {
          /** SHA-256 of the token, lowercase hex. */
          sha256: Type.String({ pattern: '^[0-9a-f]{64}$' }),
          name: Name,
          tenant: Name,
          /** Others that the caller may act for, when it names one (`Signet-Tenant`); `*`: any. */
          tenants: Type.Optional(Type.Union([Type.Literal('*'), Type.Array(Name, { maxItems: 10_000 })])),
          producer_id: Type.Optional(Name),
          scopes: Type.Array(Type.String({ pattern: '^[a-z][a-z0-9:._-]{0,63}$' }), { maxItems: 64 }),
        },
        { additionalProperties: false },
      ),
      { maxItems: 10_000 },
    ),
  },
  { additionalProperties: false },
)
export type TokenFile = Type.Static<typeof TokenFile>

/** An authenticated caller. `workload`: where it runs, for a caller that Kubernetes vouches for. */
export type Identity = {
  readonly name: string
  readonly tenant: string
  readonly producerId: string | null
  readonly scopes: ReadonlySet<string>
  readonly workload: ReviewedPod | null
}

/**
 * What a request brings. `authorization`: the header's value. `claims`: which of the identities that it may have the caller wants; a
 * token of the token file that names no `tenants` has one identity, whatever is claimed. `fresh`: nothing that is remembered counts.
 */
export type Credentials = {
  readonly authorization: string | undefined
  readonly claims?: IdentityClaims
  readonly fresh?: boolean
}

/** Rejects with SignetError UNAUTHENTICATED, FORBIDDEN (a claim that is not allowed), IDENTITY_UNAVAILABLE (nobody can tell now). */
export type Authenticator = { readonly authenticate: (credentials: Credentials) => Promise<Identity> }

const validator = Compile(TokenFile)
const MAX_TOKEN_CHARS = 8_192
const TENANT_NAME = /^[^\s]{1,512}$/

/** Parses a token file. `source` names it in messages. @throws SignetError CONFIG_INVALID, without any of its content */
export function parseTokenFile(text: string, source: string): TokenFile {
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch (cause) {
    throw new SignetError('CONFIG_INVALID', `${source} is not JSON`, { cause: nameOf(cause) })
  }
  if (!validator.Check(value)) {
    const where = [...validator.Errors(value)].map((error) => `${error.instancePath || '/'} ${error.message}`)
    throw new SignetError('CONFIG_INVALID', `${source} is not a token file: ${where.slice(0, 3).join('; ')}`)
  }
  const digests = new Set(value.tokens.map((token) => token.sha256))
  if (digests.size !== value.tokens.length) {
    throw new SignetError('CONFIG_INVALID', `${source} is not a token file: the same token is listed twice`)
  }
  return value
}

/**
 * Looks callers up by the SHA-256 of their bearer token. The comparison walks every entry and is constant in time, so that an
 * answer's timing tells neither how much of a guess was right nor where in the file it is.
 */
export function createTokenAuthenticator(file: TokenFile): Authenticator {
  const entries = file.tokens.map((token) => ({
    digest: Buffer.from(token.sha256, 'hex'),
    tenants: token.tenants ?? [],
    identity: {
      name: token.name,
      tenant: token.tenant,
      producerId: token.producer_id ?? null,
      scopes: new Set(token.scopes),
      workload: null,
    } satisfies Identity,
  }))
  return {
    async authenticate({ authorization, claims }) {
      const token = bearerToken(authorization, MAX_TOKEN_CHARS)
      const digest = createHash('sha256').update(token).digest()
      let found: (typeof entries)[number] | undefined
      for (const entry of entries) if (timingSafeEqual(entry.digest, digest)) found = entry
      if (found === undefined) throw new SignetError('UNAUTHENTICATED', 'the token is not known here')
      const { identity, tenants } = found
      const wanted = claims?.tenant
      // Who acts for one tenant alone has no choice, whatever is claimed.
      if (wanted === undefined || wanted === identity.tenant || tenants.length === 0) return identity
      if (tenants !== '*' && !tenants.includes(wanted))
        throw new SignetError('FORBIDDEN', `${identity.name} may not act for this tenant`)
      if (!TENANT_NAME.test(wanted))
        throw new SignetError(
          'REQUEST_INVALID',
          'the tenant that is named is no name: 1 to 512 characters without spaces',
        )
      return { ...identity, tenant: wanted }
    },
  }
}

/** @throws SignetError FORBIDDEN naming the scope that is missing */
export function requireScope(identity: Identity, scope: string): void {
  if (!identity.scopes.has(scope)) {
    throw new SignetError('FORBIDDEN', `${identity.name} may not do this: its token lacks the scope ${scope}`)
  }
}

/** JSON.parse quotes the text in its message; only the kind of error is kept. */
function nameOf(cause: unknown): string {
  return cause instanceof Error ? cause.name : 'unknown'
}
