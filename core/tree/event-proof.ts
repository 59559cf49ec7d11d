import Type from 'typebox'
import { Compile } from 'typebox/compile'
import { SignetError } from '../error/signet-error.ts'
import { parseStrict } from '../json/strict.ts'
import { leafHash } from './hash.ts'
import { openLogCheckpoint } from './log-key.ts'
import type { NoteVerifier } from './note.ts'
import { verifyInclusion } from './proof.ts'

const Hash = Type.String({ pattern: '^[0-9a-f]{64}$' })

/** What `GET /api/audit/logs/{event_id}/proof` gives, version 1: that an event's link is a leaf of the tree of `checkpoint`, a signed note. */
export const EventProof = Type.Object(
  {
    version: Type.Literal(1),
    event_id: Type.String({ minLength: 1, maxLength: 64 }),
    seq: Type.Integer({ minimum: 1, maximum: Number.MAX_SAFE_INTEGER }),
    commitment: Hash,
    link_hash: Hash,
    leaf_index: Type.Integer({ minimum: 0, maximum: Number.MAX_SAFE_INTEGER }),
    /** From the leaf up (RFC 6962, section 2.1.1). */
    inclusion_path: Type.Array(Hash, { maxItems: 64 }),
    checkpoint: Type.String({ maxLength: 1 << 20 }),
  },
  { additionalProperties: false },
)
export type EventProof = Type.Static<typeof EventProof>

const validator = Compile(EventProof)

/** @throws SignetError TREE_PROOF_INVALID, JSON_INVALID for a text that is no proof */
export function parseEventProof(bytes: Uint8Array): EventProof {
  const value: unknown = parseStrict(bytes)
  if (validator.Check(value)) return value
  const [fault] = validator.Errors(value)
  throw new SignetError(
    'TREE_PROOF_INVALID',
    `not a proof of version 1: ${fault?.instancePath || '/'} ${fault?.message ?? 'is not of its form'}`,
  )
}

export type ProvedLeaf = {
  readonly origin: string
  readonly size: number
  readonly root: Buffer
  readonly leafIndex: number
}

/**
 * Checks that the log signed the checkpoint and that commitment and link hash are the leaf of its tree that the proof names. What the
 * commitment is to, and so `event_id` and `seq`, is not said by it: that takes the event (`commitment` of `core/chain/link.ts`).
 * `log`: the log under each of its keys. @throws SignetError NOTE_INVALID, NOTE_UNTRUSTED, TREE_PROOF_INVALID
 */
export function verifyEventProof(proof: EventProof, log: readonly NoteVerifier[]): ProvedLeaf {
  const { origin, size, root } = openLogCheckpoint(proof.checkpoint, log)
  verifyInclusion({
    index: proof.leaf_index,
    size,
    root,
    leafHash: leafHash(Buffer.from(proof.commitment + proof.link_hash, 'hex')),
    path: proof.inclusion_path.map((hash) => Buffer.from(hash, 'hex')),
  })
  return { origin, size, root, leafIndex: proof.leaf_index }
}
