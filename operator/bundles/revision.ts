import Type from 'typebox'
import { Compile } from 'typebox/compile'
import { AuditEvent } from '#core/audit/event.ts'
import { SignetError } from '#core/error/signet-error.ts'
import { TimestampUtc } from '#core/stamp/schema.ts'

const Sha256Hex = Type.String({ pattern: '^[0-9a-f]{64}$' })
const Sequence = Type.Integer({ minimum: 0, maximum: Number.MAX_SAFE_INTEGER })

/** A published bundle: all of it can be made again from this and the blobs that it names. */
export const StoredRevision = Type.Object({
  /** As people see it and rules' status has it: `SEQUENCE-DIGEST16`. */
  revision: Type.String({ pattern: '^\\d{1,16}-[0-9a-f]{16}$' }),
  sequence: Sequence,
  /** `contentDigest` of modules and policy data. */
  digest: Sha256Hex,
  reason: Type.Enum(['change', 'rollback']),
  /** The revision that a person asked for, whose content this is. */
  rolled_back_to: Type.Optional(Type.String()),
  published_at: TimestampUtc,
  /** Of the latest signature: a bundle is signed again before it expires, without becoming another revision. */
  issued_at: TimestampUtc,
  expires_at: TimestampUtc,
  key_id: Type.String({ minLength: 1, maxLength: 200 }),
  /** The compact JWS of `.signatures.json`. */
  signature: Type.String({ minLength: 1, maxLength: 65_536 }),
  /** Blobs of the root module and, at most, the namespace's own. */
  modules: Type.Array(Sha256Hex, { minItems: 1, maxItems: 2 }),
  /** Blob of the policy data. */
  policy: Sha256Hex,
  /** The ledger has acknowledged the event of this publication. */
  audited: Type.Boolean(),
})
export type StoredRevision = Type.Static<typeof StoredRevision>

/** `index.json` of a namespace's index object. The first revision is in force. */
export const RevisionIndex = Type.Object({
  version: Type.Literal(1),
  scope: Type.String({ pattern: '^namespace/[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$' }),
  /** Of the leader that wrote last; one of an earlier term does not write any more. */
  term: Type.Integer({ minimum: 0 }),
  revisions: Type.Array(StoredRevision, { minItems: 1, maxItems: 400 }),
  /** Events of publications that the ledger has not acknowledged yet, oldest first; written together with the revision. */
  outbox: Type.Array(AuditEvent, { maxItems: 400 }),
})
export type RevisionIndex = Type.Static<typeof RevisionIndex>

const checker = Compile(RevisionIndex)

/** Reads an index. People can edit it: what is not in form is refused. Throws BUNDLE_INVALID. */
export function parseIndex(text: string | undefined, name: string): RevisionIndex {
  let value: unknown
  try {
    value = JSON.parse(text ?? '')
  } catch (cause) {
    throw new SignetError('BUNDLE_INVALID', `ConfigMap ${name}: index.json is not JSON`, { cause })
  }
  if (checker.Check(value)) return value
  const error = checker.Errors(value)[0]
  throw new SignetError('BUNDLE_INVALID', `ConfigMap ${name}: index.json ${error?.instancePath} ${error?.message}`)
}

/** Revisions kept: the newest ones, what is in force (the first), and the one that was asked for. */
export function keepRevisions(
  revisions: readonly StoredRevision[],
  keep: number,
  rollbackTo: string | undefined,
): StoredRevision[] {
  return revisions.filter((revision, index) => index < keep || revision.revision === rollbackTo)
}

/**
 * The sequence of the next revision. Strictly above the last one; a namespace's first is the time in seconds, so that an index that was
 * lost (deleted, or restored from a backup that lacks it) continues above whatever proxies have in force. `isLost`: what is in force was changed by
 * somebody; `shown`: the revision in the annotation, which may be all that is left of it.
 */
export function nextSequence(index: RevisionIndex | null, now: Date, isLost = false, shown = ''): number {
  const last = index?.revisions[0]?.sequence
  const seconds = Math.floor(now.getTime() / 1000)
  if (last !== undefined && !isLost) return last + 1
  // Somebody wrote it, too high or too low: the others, and what people are shown, may still be right.
  const known = [
    ...(index?.revisions ?? []).flatMap(({ sequence, revision }) => [sequence, sequenceOf(revision)]),
    sequenceOf(shown),
  ].filter((sequence) => sequence < 2 * seconds)
  return Math.max(seconds, ...known.map((sequence) => sequence + 1))
}

/** Of a revision as people see it; 0 where it is none. */
function sequenceOf(revision: string): number {
  return Number(/^(\d{1,16})-/.exec(revision)?.[1] ?? 0)
}
