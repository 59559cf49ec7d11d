import { randomUUID } from 'node:crypto'
import { SignetError } from '#core/error/signet-error.ts'
import { namesSomebody } from '#core/seal/mention.ts'
import { parseSubjectRef, subjectRef } from '#core/seal/rules.ts'
import { withTenant, type Pool } from '#runtime/postgres/transaction.ts'
import type { Batch, NoticeEntry, Producer } from '../entry.ts'
import type { Mark } from '../keys.ts'
import { noticed } from '../ledger-event.ts'
import type { Sequencer } from '../sequencer.ts'
import type { Page } from '../query.ts'
import { countRecords, searchRecords } from '../store/search.ts'
import { findEvents } from '../store/wall.ts'
import { openRecord } from '#core/audit/record.ts'
import {
  destroyAgain,
  destroySubject,
  findErasure,
  findErasureOf,
  findUnrecorded,
  saveRecorded,
  type Erasure,
  type Target,
} from './erasure-store.ts'
import type { Sealer } from './sealer.ts'
import { findByIndex, listTenants } from './store.ts'

export type Erasures = {
  /**
   * Destroys a person's key, and puts the receipt in the chain. `subject`: the name, or its reference. The same request again, while the
   * receipt is not in the chain, finishes it; a reference that was erased before gives its erasure.
   * @throws SignetError NOT_FOUND (nothing is sealed for it), REQUEST_INVALID (the reason names somebody), LEGAL_HOLD, SEAL_KEY_UNAVAILABLE, DATABASE_UNAVAILABLE: if it happens after
   * the key was destroyed, the receipt is written later
   */
  erase(tenant: string, order: { subject: string; requestedBy: string; reason: string | null }): Promise<Erasure>
  /** @throws SignetError NOT_FOUND */
  find(tenant: string, id: string): Promise<Erasure>
  /** Receipts that are not in the chain yet; of many, a part. */
  unrecorded(): Promise<number>
  /** Writes receipts that a crash kept back. */
  recordWaiting(): Promise<void>
  /** Destroys keys again that a restore of the work database brought back, by the receipts in the chain; how many. */
  destroyAgain(): Promise<number>
}

export type ErasureDeps = {
  readonly work: Pool
  readonly wall: Pool
  readonly sealer: Pick<Sealer, 'indexOf' | 'formsOf' | 'forget'>
  readonly sequencer: Sequencer
  readonly mark: Mark
  readonly clock: () => Date
  /** Legal holds of the tenant that stand. */
  readonly holdsFor: (tenant: string) => Promise<readonly { readonly id: string }[]>
}

const PRODUCER_ID = 'signet-ledger'
const RECEIPTS_A_TIME = 500
const UUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/

export function createErasures(deps: ErasureDeps): Erasures {
  const { work, wall, sealer, sequencer, clock } = deps

  async function targetOf(tenant: string, subject: string): Promise<Target> {
    const subjectId = parseSubjectRef(subject)
    if (subjectId !== null) return { subjectId }
    const nameIndex = await sealer.indexOf(tenant, subject)
    if (nameIndex === null) throw nobody()
    return { nameIndex }
  }

  /** The receipt stays for ever: a name in it would be kept again, by the very call that is to end that. */
  async function refuseNames(tenant: string, subject: string, reason: string | null): Promise<void> {
    if (reason === null) return
    // Without a master key a person can be erased all the same.
    const forms = await sealer.formsOf(tenant, subject).catch(() => [])
    const names = [subject, ...forms].filter((name) => parseSubjectRef(name) === null)
    if (namesSomebody(reason, names))
      throw new SignetError(
        'REQUEST_INVALID',
        '/reason names a person, and is kept in the receipt for ever: give the number of a case instead',
      )
  }

  /** Whether somebody is known by that name at this moment. */
  async function isKnown(tenant: string, target: Target): Promise<boolean> {
    return 'nameIndex' in target && (await findByIndex(work, tenant, [target.nameIndex])).length > 0
  }

  async function record(erasure: Erasure): Promise<Erasure> {
    if (erasure.record !== null) return erasure
    const { tenant, subjectId } = erasure
    const ref = subjectRef(subjectId)
    const count = await withTenant(
      wall,
      tenant,
      (client) => countRecords(client, tenant, { from: null, to: null, words: null, equals: [['actor', ref]] }, 0),
      { readOnly: true },
    )
    const producer: Producer = { tenant, producerId: PRODUCER_ID }
    const notice = receipt(erasure, count)
    const batch: Batch = { producer, entries: [notice] }
    await sequencer.append(batch)
    const { event_id: eventId } = noticed({ producer, at: erasure.destroyedAt, mark: deps.mark }, notice)
    const placed = await withTenant(wall, tenant, (client) => findEvents(client, tenant, [eventId]), { readOnly: true })
    const seq = placed.get(eventId)?.seq
    if (seq === undefined) throw new SignetError('INTERNAL', 'the receipt of an erasure was appended and is not there')
    const written = { eventId, seq, recordedAt: clock() }
    await saveRecorded(work, erasure, written)
    return { ...erasure, record: written }
  }

  async function destroyAgainIn(tenant: string): Promise<number> {
    let destroyed = 0
    const filter = { from: null, to: null, words: null, equals: [['event_type', 'audit.erasure'] as const] }
    let bound: number | null = 0
    while (bound !== null) {
      const page: Page = { limit: RECEIPTS_A_TIME, order: 'asc', bound }
      const { rows, more }: Awaited<ReturnType<typeof searchRecords>> = await withTenant(
        wall,
        tenant,
        (client) => searchRecords(client, tenant, { ...filter, ...page }),
        { readOnly: true },
      )
      const subjects = rows.flatMap(({ bytes }) => erasedIn(bytes))
      const again = subjects.length === 0 ? [] : await destroyAgain(work, tenant, subjects, clock())
      for (const subjectId of again) sealer.forget(tenant, subjectId)
      destroyed += again.length
      bound = more ? (rows.at(-1)?.seq ?? null) : null
    }
    return destroyed
  }

  return {
    async erase(tenant, { subject, requestedBy, reason }) {
      await refuseNames(tenant, subject, reason)
      const target = await targetOf(tenant, subject)
      const before = await findErasureOf(work, tenant, target)
      if (before !== null) {
        const finished = await record(before)
        // Whoever came again under the name while the receipt was waiting is to be erased, too.
        if (!(await isKnown(tenant, target))) return finished
      }
      const [hold] = await deps.holdsFor(tenant)
      if (hold !== undefined)
        throw new SignetError('LEGAL_HOLD', `the legal hold ${hold.id} forbids erasures of this tenant while it stands`)
      const erasure = await destroySubject(work, tenant, target, { id: randomUUID(), requestedBy, reason, at: clock() })
      if (erasure === null) {
        // Another process may have come first.
        const others = await findErasureOf(work, tenant, target)
        if (others === null) throw nobody()
        return record(others)
      }
      sealer.forget(tenant, erasure.subjectId)
      return record(erasure)
    },

    async find(tenant, id) {
      const erasure = UUID.test(id) ? await findErasure(work, tenant, id) : null
      if (erasure === null) throw new SignetError('NOT_FOUND', 'no such erasure')
      return erasure
    },

    unrecorded: async () => (await findUnrecorded(work, RECEIPTS_A_TIME)).length,

    async recordWaiting() {
      for (;;) {
        const batch = await findUnrecorded(work, RECEIPTS_A_TIME)
        for (const erasure of batch) await record(erasure)
        if (batch.length < RECEIPTS_A_TIME) return
      }
    },

    async destroyAgain() {
      let destroyed = 0
      for (const tenant of await listTenants(work)) destroyed += await destroyAgainIn(tenant)
      return destroyed
    },
  }
}

function receipt(erasure: Erasure, records: { readonly value: number; readonly exact: boolean }): NoticeEntry {
  const { id, subjectId, requestedBy, reason, destroyed, destroyedAt } = erasure
  return {
    kind: 'notice',
    type: 'audit.erasure',
    cause: [id],
    outcome: 'success',
    resourceType: 'subject',
    resourceId: subjectRef(subjectId),
    context: {
      erasure_id: id,
      requested_by: requestedBy,
      reason,
      destroyed: { what: 'data-subject-key', ...destroyed },
      destroyed_at: destroyedAt.toISOString(),
      records_as_actor: records,
    },
  }
}

function erasedIn(bytes: Buffer): string[] {
  try {
    const { event } = openRecord(bytes)
    const id = event.source === PRODUCER_ID ? parseSubjectRef(event.resource_id ?? '') : null
    return id === null ? [] : [id]
  } catch {
    // The verifier says so.
    return []
  }
}

function nobody(): SignetError {
  return new SignetError('NOT_FOUND', 'nothing is sealed for this subject: it is not known here, or was erased')
}
