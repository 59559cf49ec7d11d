import { SignetError } from '#core/error/signet-error.ts'
import { LEDGER_PRODUCER } from '#core/retention/purge.ts'
import { namesSomebody } from '#core/seal/mention.ts'
import { uuidV7 } from '#runtime/identifier.ts'
import type { Pool } from '#runtime/postgres/transaction.ts'
import type { Batch, NoticeEntry } from '../entry.ts'
import { throwRefusal } from '../refusal.ts'
import type { Sequencer } from '../sequencer.ts'
import {
  countStanding,
  findRevocation,
  findStanding,
  findUnrecorded,
  forgetLifted,
  insertRevocation,
  listRevocations,
  saveLifted,
  saveRecorded,
  type Revocation,
  type Target,
} from './store.ts'

export type Revocations = {
  /**
   * Revokes; from the answer on no call that comes to this process passes, and a second later none to any other. Doing it again finds the one that stands (`made` false).
   * @throws SignetError REQUEST_INVALID for an e-mail address in `reason` and names that are too long, TOO_MANY_REQUESTS past what a tenant may have
   */
  revoke(
    target: Target,
    order: { readonly by: string; readonly reason: string },
  ): Promise<{ revocation: Revocation; made: boolean }>
  /** Lets in again; once. @throws SignetError NOT_FOUND, REQUEST_INVALID */
  lift(tenant: string, id: string, order: { readonly by: string; readonly reason: string }): Promise<Revocation>
  /** @throws SignetError NOT_FOUND */
  find(tenant: string, id: string): Promise<Revocation>
  list(tenant: string, page: Parameters<typeof listRevocations>[2]): Promise<Revocation[]>
  /** Records what a crash or the wall kept out of the chain, and forgets what was lifted long ago. How many were recorded. */
  keepUp(): Promise<number>
}

/** That stand at a time, a tenant. */
const MAX_STANDING = 10_000
/** Of tenant and target together: an entry of an index of PostgreSQL has room for 2,704 bytes. */
const MAX_NAMED_BYTES = 2_000
const KEPT_LIFTED_MS = 90 * 24 * 3_600_000
const RECORDED_AT_ONCE = 100
const UUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/

export function createRevocations(deps: {
  readonly work: Pool
  readonly sequencer: Pick<Sequencer, 'append'>
  readonly clock: () => Date
  /** Told at once of who was revoked, or let in again, by this process. */
  readonly onChange: (target: Target) => void
}): Revocations {
  const { work, sequencer, clock, onChange } = deps

  async function record(revocation: Revocation): Promise<Revocation> {
    if (revocation.recordedAt !== null) return revocation
    throwRefusal(await sequencer.append(revokedNotice(revocation)))
    const recordedAt = clock()
    await saveRecorded(work, revocation, recordedAt)
    return { ...revocation, recordedAt }
  }

  async function find(tenant: string, id: string): Promise<Revocation> {
    const revocation = UUID.test(id) ? await findRevocation(work, tenant, id) : null
    if (revocation === null) throw new SignetError('NOT_FOUND', 'no such revocation')
    return revocation
  }

  return {
    find,
    async revoke(target, { by, reason }) {
      refuseNames(reason)
      if (Buffer.byteLength(target.tenant + target.target) > MAX_NAMED_BYTES)
        throw new SignetError('REQUEST_INVALID', `tenant and target have more than ${MAX_NAMED_BYTES} bytes together`)
      const [standing] = await findStanding(work, [target])
      if (standing === undefined && (await countStanding(work, target.tenant)) >= MAX_STANDING)
        throw new SignetError('TOO_MANY_REQUESTS', `a tenant has at most ${MAX_STANDING} revocations that stand`)
      const id = uuidV7()
      // What closes is closed at once, and recorded then: a wall that is away keeps nobody in.
      const revocation = await insertRevocation(work, { ...target, id, reason, revokedBy: by, revokedAt: clock() })
      onChange(target)
      return { revocation: await record(revocation), made: revocation.id === id }
    },
    async lift(tenant, id, { by, reason }) {
      refuseNames(reason)
      const revocation = await find(tenant, id)
      if (revocation.lifted !== null) return revocation
      // What opens is on record first, and after what it opens.
      await record(revocation)
      throwRefusal(await sequencer.append(liftedNotice(revocation, by, reason)))
      await saveLifted(work, revocation, { by, reason, at: clock() })
      onChange(revocation)
      return find(tenant, id)
    },
    list: (tenant, page) => listRevocations(work, tenant, page),
    async keepUp() {
      const waiting = await findUnrecorded(work, RECORDED_AT_ONCE)
      for (const revocation of waiting) await record(revocation)
      await forgetLifted(work, new Date(clock().getTime() - KEPT_LIFTED_MS))
      return waiting.length
    },
  }
}

/** The chain keeps a reason for ever. */
function refuseNames(reason: string): void {
  if (namesSomebody(reason))
    throw new SignetError(
      'REQUEST_INVALID',
      'the reason has an e-mail address, and is kept for ever: give the number of a case instead',
    )
}

function revokedNotice(revocation: Revocation): Batch {
  const { kind, target, reason, revokedBy } = revocation
  return notice(revocation, 'identity.revoked', { by: revokedBy, kind, target, reason })
}

function liftedNotice(revocation: Revocation, by: string, reason: string): Batch {
  const { kind, target } = revocation
  return notice(revocation, 'identity.reinstated', { by, kind, target, reason })
}

function notice({ tenant, id }: Revocation, type: NoticeEntry['type'], context: NoticeEntry['context']): Batch {
  return {
    producer: { tenant, producerId: LEDGER_PRODUCER },
    entries: [
      { kind: 'notice', type, cause: [id], outcome: 'success', resourceType: 'revocation', resourceId: id, context },
    ],
  }
}
