import Type from 'typebox'
import { Compile } from 'typebox/compile'
import { firstFault } from '#core/error/schema-fault.ts'
import { SignetError } from '#core/error/signet-error.ts'
import { workloadIdentity, type IdentityClaims, type NamespaceMap } from '#core/identity/namespace-map.ts'
import type { ReviewedPod, ServiceAccountAuthenticator } from './service-account.ts'
import type { Authenticator, Identity } from './token.ts'

const Name = Type.String({ minLength: 1, maxLength: 512 })

/** Service accounts that are more than a workload, by `NAMESPACE/NAME`: the operator, an auditor. Version 1. */
export const ServiceAccountFile = Type.Object(
  {
    version: Type.Literal(1),
    service_accounts: Type.Record(
      Type.String({ pattern: '^[a-z0-9][-a-z0-9]{0,62}/[a-z0-9][-.a-z0-9]{0,252}$' }),
      Type.Object(
        {
          tenant: Name,
          /** More tenants that a call may name in `Signet-Tenant`; `*`: any. */
          tenants: Type.Optional(Type.Union([Type.Literal('*'), Type.Array(Name, { maxItems: 1_000 })])),
          /** What it writes as; its own `NAMESPACE/NAME` where left out. */
          producer_id: Type.Optional(Name),
          scopes: Type.Array(Type.String({ pattern: '^[a-z][a-z0-9:._-]{0,63}$' }), { maxItems: 64 }),
        },
        { additionalProperties: false },
      ),
      { additionalProperties: false },
    ),
  },
  { additionalProperties: false },
)
export type ServiceAccountFile = Type.Static<typeof ServiceAccountFile>

/** What any pod may do: write as its producer, and read back the stamps that it wrote. */
export const POD_SCOPES: ReadonlySet<string> = new Set(['audit:write', 'stamps:read'])
export const NO_SERVICE_ACCOUNTS: ServiceAccountFile = { version: 1, service_accounts: {} }

const validator = Compile(ServiceAccountFile)

/** @throws SignetError CONFIG_INVALID with the place of the first fault. `source` names the file */
export function checkServiceAccountFile(value: unknown, source: string): ServiceAccountFile {
  if (validator.Check(value)) return value
  const { path, allowed } = firstFault(validator.Errors(value))
  throw new SignetError('CONFIG_INVALID', `${source} is not a file of service accounts: at ${path}: ${allowed}`)
}

/**
 * Service accounts as callers: those that the file names are what it says; every other must come from a pod, and is what the namespace
 * map makes of it. Both are asked for at each call, so that they can change.
 */
export function createWorkloadAuthenticator(deps: {
  readonly accounts: ServiceAccountAuthenticator
  readonly namespaceMap: () => NamespaceMap
  readonly serviceAccounts: () => ServiceAccountFile
}): Authenticator {
  return {
    async authenticate({ authorization, claims = {}, fresh = false }) {
      const who = await deps.accounts.authenticate(authorization, { fresh })
      const account = `${who.namespace}/${who.serviceAccount}`
      const { service_accounts: listed } = deps.serviceAccounts()
      const entry = Object.hasOwn(listed, account) ? listed[account] : undefined
      return entry === undefined ? podIdentity(who, deps.namespaceMap(), claims) : listedIdentity(who, entry, claims)
    },
  }
}

/** Asks one after the other, the next where the one before does not know the token. */
export function firstThatKnows(authenticators: readonly Authenticator[]): Authenticator {
  return {
    async authenticate(credentials) {
      let unknown: unknown
      for (const authenticator of authenticators) {
        try {
          return await authenticator.authenticate(credentials)
        } catch (error) {
          if (!(error instanceof SignetError) || error.code !== 'UNAUTHENTICATED') throw error
          unknown = error
        }
      }
      throw unknown ?? new SignetError('UNAUTHENTICATED', 'no tokens are accepted here')
    },
  }
}

function podIdentity(who: ReviewedPod, map: NamespaceMap, claims: IdentityClaims): Identity {
  if (who.pod === null) {
    throw new SignetError(
      'FORBIDDEN',
      `the token of ${who.namespace}/${who.serviceAccount} is bound to no pod; a projected token of a running pod is`,
    )
  }
  const { tenant, producerId } = workloadIdentity(map, who, claims)
  return { name: `pod ${who.namespace}/${who.pod.name}`, tenant, producerId, scopes: POD_SCOPES, workload: who }
}

function listedIdentity(
  who: ReviewedPod,
  entry: ServiceAccountFile['service_accounts'][string],
  claims: IdentityClaims,
): Identity {
  const account = `${who.namespace}/${who.serviceAccount}`
  const producerId = entry.producer_id ?? account
  const tenant = claims.tenant ?? entry.tenant
  const { tenants = [] } = entry
  if (tenant !== entry.tenant && tenants !== '*' && !tenants.includes(tenant))
    throw new SignetError('FORBIDDEN', `${account} may not act for this tenant`)
  if (claims.producerId !== undefined && claims.producerId !== producerId)
    throw new SignetError('FORBIDDEN', `${account} writes as ${producerId} only`)
  return { name: `service account ${account}`, tenant, producerId, scopes: new Set(entry.scopes), workload: who }
}
