import { LRUCache } from 'lru-cache'
import Type from 'typebox'
import { Compile } from 'typebox/compile'
import { firstFault } from '#core/error/schema-fault.ts'
import { SignetError } from '#core/error/signet-error.ts'
import type { Authenticator, Identity } from '#runtime/identity/token.ts'
import type { NoticeEntry, Producer } from '../entry.ts'

const Name = Type.String({ minLength: 1, maxLength: 512 })
const Reason = Type.Optional(Type.String({ maxLength: 1_000 }))

/**
 * Who is shut out, whatever its token says: a producer of a tenant, or all that runs in a namespace (as one service account, or as any: a workload may say
 * which producer of its namespace it is, so that shutting one out by its name alone leaves it the others).
 */
export const DeniedFile = Type.Object(
  {
    version: Type.Literal(1),
    denied: Type.Array(
      Type.Union([
        Type.Object({ tenant: Name, producer_id: Name, reason: Reason }, { additionalProperties: false }),
        Type.Object(
          { namespace: Name, service_account: Type.Optional(Name), reason: Reason },
          { additionalProperties: false },
        ),
      ]),
      { maxItems: 10_000 },
    ),
  },
  { additionalProperties: false },
)
export type DeniedFile = Type.Static<typeof DeniedFile>
export const NOBODY_DENIED: DeniedFile = { version: 1, denied: [] }

const validator = Compile(DeniedFile)

/** @throws SignetError CONFIG_INVALID */
export function checkDeniedFile(value: unknown, source: string): DeniedFile {
  if (validator.Check(value)) return value
  const { path, allowed } = firstFault(validator.Errors(value))
  throw new SignetError('CONFIG_INVALID', `${source} is not a file of denied producers: at ${path}: ${allowed}`)
}

export type DenyList = {
  /** Lets nobody through who is denied: PRODUCER_DENIED. Asked at each call, so that it holds from the moment that the file says so. */
  guard(authenticator: Authenticator): Authenticator
  /** Whether the stamps of this producer are vouched for by nobody now: who is shut out may have its key still, and could date a stamp back. */
  deniesStampsOf(producer: Producer): boolean
  /** Told of who was refused, at most once a minute each. */
  onRefused(listener: (producer: Producer, notice: NoticeEntry) => void): void
}

const TOLD_MS = 60_000
const MAX_TOLD = 10_000

export function createDenyList(current: () => DeniedFile, now: () => Date): DenyList {
  const told = new LRUCache<string, number>({ max: MAX_TOLD })
  let tell: (producer: Producer, notice: NoticeEntry) => void = () => {}

  const refuse = (identity: Identity, entry: DeniedFile['denied'][number]): never => {
    const { tenant, producerId, workload } = identity
    const minute = Math.floor(now().getTime() / TOLD_MS)
    const key = JSON.stringify([tenant, producerId, workload?.namespace, workload?.serviceAccount])
    if (producerId !== null && told.get(key) !== minute) {
      told.set(key, minute)
      tell(
        { tenant, producerId },
        {
          kind: 'notice',
          type: 'identity.denied',
          // The same for all replicas.
          cause: [key, String(minute)],
          outcome: 'denied',
          resourceType: 'producer',
          resourceId: producerId,
          context: {
            producer_id: producerId,
            ...(workload === null ? {} : { namespace: workload.namespace, service_account: workload.serviceAccount }),
            ...(entry.reason === undefined ? {} : { reason: entry.reason }),
          },
        },
      )
    }
    throw new SignetError('PRODUCER_DENIED', `${identity.name} is shut out by the platform`)
  }

  return {
    guard: (authenticator) => ({
      async authenticate(credentials) {
        const identity = await authenticator.authenticate(credentials)
        const entry = current().denied.find((each) => denies(each, identity))
        return entry === undefined ? identity : refuse(identity, entry)
      },
    }),
    deniesStampsOf: ({ tenant, producerId }) =>
      current().denied.some(
        (entry) => 'tenant' in entry && entry.tenant === tenant && entry.producer_id === producerId,
      ),
    onRefused: (listener) => void (tell = listener),
  }
}

function denies(entry: DeniedFile['denied'][number], { tenant, producerId, workload }: Identity): boolean {
  if ('tenant' in entry) return entry.tenant === tenant && entry.producer_id === producerId
  if (workload?.namespace !== entry.namespace) return false
  return entry.service_account === undefined || entry.service_account === workload.serviceAccount
}
