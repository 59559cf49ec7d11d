import { SignetError } from '#core/error/signet-error.ts'
import { keepRevisions, type RevisionIndex, type StoredRevision } from './revision.ts'

/** What is known when it is decided what becomes of a namespace's bundle. */
export type Situation = {
  /** Null before the first publication. */
  readonly index: RevisionIndex | null
  readonly rollbackTo: string | undefined
  /** Digest of the content that the rules of now make; null where it is not known (upkeep only). */
  readonly wantedDigest: string | null
  /** Of the leader that asks. */
  readonly term: number
  readonly now: Date
  /** A bundle that is valid for less than this is signed again. */
  readonly renewBeforeMs: number
  /** Whether this key is among those that we know, private or retired. */
  readonly isKnownKey: (keyId: string) => boolean
  /**
   * What somebody did to what is stored. `labels`: the index is not found by them any more. `content`: what is in force is not what was signed.
   * Only asked where the key is known.
   */
  readonly damage: 'none' | 'labels' | 'content'
  /** Events of publications that may wait for the ledger. */
  readonly maxOutbox: number
}

export type Decision = {
  /** `sign-again` keeps revision and sequence. */
  readonly action: 'none' | 'sign-again' | 'publish' | 'roll-back'
  /** The revision that is rolled back to. */
  readonly target?: StoredRevision
  /** A rollback is asked for: what the rules say has to wait. */
  readonly held: boolean
  readonly problem?: SignetError
}

/** Pure: no clock, no store. What is in force always stays when there is doubt. */
export function decide(situation: Situation): Decision {
  const { index, rollbackTo, wantedDigest } = situation
  if (index === null) {
    // A rollback annotation lives on the index: without one there is none.
    return { action: wantedDigest === null ? 'none' : 'publish', held: false }
  }
  if (index.term > situation.term) {
    const problem = new SignetError(
      'BUNDLE_STALE',
      `Another leader publishes: term ${index.term} after ${situation.term}`,
    )
    return { action: 'none', held: false, problem }
  }
  const inForce = index.revisions[0]!
  const upkeep = needsSigning(inForce, situation) ? 'sign-again' : 'none'
  const held = rollbackTo !== undefined
  const target = held ? index.revisions.find((revision) => revision.revision === rollbackTo) : undefined
  if (held && target === undefined) {
    const problem = new SignetError(
      'BUNDLE_UNAVAILABLE',
      `The rollback asks for revision ${rollbackTo.slice(0, 100)}, which is not stored; what is in force stays. Stored are ${index.revisions
        .slice(0, 20)
        .map((revision) => revision.revision)
        .join(', ')}`,
    )
    return { action: upkeep, held, problem }
  }
  const digest = target?.digest ?? wantedDigest
  const isLost = situation.damage === 'content'
  if (isLost && digest === null) {
    const problem = new SignetError(
      'BUNDLE_UNTRUSTED',
      'What is stored is not what was signed; it has to be published again',
    )
    return { action: 'none', held, problem }
  }
  if (digest === null || (digest === inForce.digest && !isLost)) return { action: upkeep, held }
  if (index.outbox.length >= situation.maxOutbox) {
    const problem = new SignetError(
      'LEDGER_UNREACHABLE',
      `${index.outbox.length} publications wait to be audited; the next one waits until the ledger takes them`,
    )
    return { action: upkeep, held, problem }
  }
  return target === undefined ? { action: 'publish', held } : { action: 'roll-back', target, held }
}

function needsSigning(inForce: StoredRevision, { now, renewBeforeMs, isKnownKey, damage }: Situation): boolean {
  // Of a damaged one nothing can be signed again; it is published anew.
  if (damage === 'content') return false
  if (damage === 'labels') return true
  return Date.parse(inForce.expires_at) - now.getTime() < renewBeforeMs || !isKnownKey(inForce.key_id)
}

/** The index after a publication: the new revision in front, its event in the outbox, and no more history than is kept. */
export function withRevision(
  index: RevisionIndex | null,
  added: { scope: string; term: number; revision: StoredRevision; event: RevisionIndex['outbox'][number] },
  kept: { keep: number; rollbackTo: string | undefined; isLost: boolean },
): RevisionIndex {
  const former = index?.revisions.slice(kept.isLost ? 1 : 0) ?? []
  return {
    version: 1,
    scope: added.scope,
    term: added.term,
    revisions: keepRevisions([added.revision, ...former], kept.keep, kept.rollbackTo),
    outbox: [...(index?.outbox ?? []), added.event],
  }
}

/** The index once the ledger has acknowledged the event of this id. */
export function withAcknowledged(index: RevisionIndex, eventId: string, revision: string): RevisionIndex {
  return {
    ...index,
    outbox: index.outbox.filter((event) => event.event_id !== eventId),
    revisions: index.revisions.map((found) => (found.revision === revision ? { ...found, audited: true } : found)),
  }
}
