import { createHash } from 'node:crypto'
import { LRUCache } from 'lru-cache'
import { SignetError } from '#core/error/signet-error.ts'
import { LEDGER_PRODUCER } from '#core/retention/purge.ts'
import { bearerToken } from '#runtime/identity/bearer.ts'
import type { Authenticator, Identity } from '#runtime/identity/token.ts'
import type { NoticeEntry, Producer } from '../entry.ts'
import type { RevocationLookup } from './lookup.ts'
import type { Standing, Target } from './store.ts'

export type RevocationGuard = {
  /** Lets nobody through who is revoked: CREDENTIAL_REVOKED. Nobody, either, of whom that cannot be told: IDENTITY_UNAVAILABLE. */
  guard(authenticator: Authenticator): Authenticator
  /** Whether this producer is revoked: nothing of it is recorded, and nobody vouches for its stamps. @throws SignetError IDENTITY_UNAVAILABLE */
  readonly isRevoked: (producer: Producer) => Promise<boolean>
  /** Told of who was refused, at most once a minute for each revocation. */
  onRefused(listener: (producer: Producer, notice: NoticeEntry) => void): void
}

const TOLD_MS = 60_000
const MAX_TOLD = 10_000
const MAX_TOKEN_CHARS = 8_192

export function createRevocationGuard(lookup: RevocationLookup, now: () => Date): RevocationGuard {
  const told = new LRUCache<string, number>({ max: MAX_TOLD })
  let tell: (producer: Producer, notice: NoticeEntry) => void = () => {}

  const refuse = (identity: Identity, standing: Standing): never => {
    const minute = Math.floor(now().getTime() / TOLD_MS)
    if (told.get(standing.id) !== minute) {
      told.set(standing.id, minute)
      const producerId = identity.producerId ?? LEDGER_PRODUCER
      tell({ tenant: identity.tenant, producerId }, refusalNotice(identity, standing, minute))
    }
    throw new SignetError('CREDENTIAL_REVOKED', `${identity.name} was revoked: revocation ${standing.id}`)
  }

  return {
    guard: (authenticator) => ({
      async authenticate(credentials) {
        const identity = await authenticator.authenticate(credentials)
        const token = bearerToken(credentials.authorization, MAX_TOKEN_CHARS)
        const standing = await lookup.find(targetsOf(identity, token), { fresh: credentials.fresh === true })
        return standing === null ? identity : refuse(identity, standing)
      },
    }),
    isRevoked: async ({ tenant, producerId }) =>
      (await lookup.find([{ tenant, kind: 'producer', target: producerId }])) !== null,
    onRefused: (listener) => void (tell = listener),
  }
}

/** All that a caller could have been revoked as. Only in the tenant that it acts for: no tenant can shut others' callers out. */
export function targetsOf({ tenant, producerId, workload }: Identity, token: string): Target[] {
  const digest = createHash('sha256').update(token).digest('hex')
  const targets: Target[] = [{ tenant, kind: 'token', target: digest }]
  if (producerId !== null) targets.push({ tenant, kind: 'producer', target: producerId })
  if (workload !== null)
    targets.push({ tenant, kind: 'service_account', target: `${workload.namespace}/${workload.serviceAccount}` })
  return targets
}

function refusalNotice({ producerId, workload }: Identity, standing: Standing, minute: number): NoticeEntry {
  return {
    kind: 'notice',
    type: 'identity.denied',
    // The same for all replicas.
    cause: ['revocation', standing.id, String(minute)],
    outcome: 'denied',
    resourceType: 'revocation',
    resourceId: standing.id,
    context: {
      ...(producerId === null ? {} : { producer_id: producerId }),
      ...(workload === null ? {} : { namespace: workload.namespace, service_account: workload.serviceAccount }),
      kind: standing.kind,
      reason: standing.reason,
    },
  }
}
