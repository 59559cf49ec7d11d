import { createHash, sign, verify, type KeyObject } from 'node:crypto'
import Type from 'typebox'
import { Compile } from 'typebox/compile'
import type { SealedRecord } from '../audit/record.ts'
import { canonicalize } from '../canonical/jcs.ts'
import { pae } from '../crypto/pae.ts'

export const PURGE_EVENTS = ['audit.purge.authorized', 'audit.purge.completed', 'audit.purge.abandoned'] as const
/** Stands as producer and source of the ledger's own events. */
export const LEDGER_PRODUCER = 'signet-ledger'

const closed = { additionalProperties: false } as const
const Hex = Type.String({ pattern: '^[0-9a-f]{64}$' })
const Seq = Type.Integer({ minimum: 1, maximum: Number.MAX_SAFE_INTEGER })
const Uuid = Type.String({ pattern: '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$' })

/**
 * What a purge takes away of one tenant, said in its chain before it happens. `blocks`: for each block of `width` numbers of the chain
 * that has links of the class and month, `[block, links, digest]`: block `n` is links `n·width + 1` to `(n + 1)·width`, the digest as
 * `blockDigest`. With it a link whose record is missing is told from one whose record somebody took away later.
 */
export const PurgeStatement = Type.Object(
  {
    v: Type.Literal(1),
    purge_id: Uuid,
    tenant: Type.String({ minLength: 1, maxLength: 512 }),
    retention_class: Type.String({ minLength: 1, maxLength: 64 }),
    month: Type.String({ pattern: '^\\d{4}-\\d\\d-01$' }),
    first_seq: Seq,
    last_seq: Seq,
    records: Seq,
    width: Type.Integer({ minimum: 1, maximum: 2 ** 31 - 1 }),
    blocks: Type.Array(Type.Tuple([Type.Integer({ minimum: 0 }), Seq, Hex]), { minItems: 1, maxItems: 2_048 }),
    /** The archive that has them: its snapshot and the SHA-256 of its manifest. */
    snapshot: Uuid,
    manifest_sha256: Hex,
  },
  closed,
)
export type PurgeStatement = Type.Static<typeof PurgeStatement>

/** Ed25519 (base64url) over PAE("SignetV1", "application/vnd.signet.purge.v1+json", JCS(statement)), with the ledger's ack key. */
export type PurgeSignature = { readonly key_id: string; readonly value: string }

const MIN_BLOCK_LINKS = 1_024
/** So that the statement of a month of any size stays an event of some hundred kilobytes. */
const MAX_BLOCKS = 1_024
const STATEMENT_TYPE = 'application/vnd.signet.purge.v1+json'

/** Numbers of the chain that a block has: a power of two, so that no range has more than 1,025 blocks. */
export function blockWidth(firstSeq: number, lastSeq: number): number {
  let width = MIN_BLOCK_LINKS
  while ((lastSeq - firstSeq + 1) / width > MAX_BLOCKS) width *= 2
  return width
}

/** SHA-256 (hex) over number (64 bits, big-endian) and commitment of each link, in the order of the chain. */
export function blockDigest(links: Iterable<{ readonly seq: number; readonly commitment: Buffer }>): string {
  const hash = createHash('sha256')
  const number = Buffer.alloc(8)
  for (const { seq, commitment } of links) {
    number.writeBigUInt64BE(BigInt(seq))
    hash.update(number).update(commitment)
  }
  return hash.digest('hex')
}

export function signPurge(statement: PurgeStatement, key: { keyId: string; privateKey: KeyObject }): PurgeSignature {
  return { key_id: key.keyId, value: sign(null, signedBytes(statement), key.privateKey).toString('base64url') }
}

/** Whether the statement is signed with this key. */
export function isPurgeSigned(statement: PurgeStatement, signature: PurgeSignature, publicKey: KeyObject): boolean {
  return verify(null, signedBytes(statement), publicKey, Buffer.from(signature.value, 'base64url'))
}

function signedBytes(statement: PurgeStatement): Buffer {
  return pae('SignetV1', STATEMENT_TYPE, canonicalize(statement))
}

/** What an event of the ledger's says about a purge; null for any other event, and for one that is not well formed. */
export type PurgeNotice =
  | { readonly kind: 'authorized'; readonly statement: PurgeStatement }
  | { readonly kind: 'completed' | 'abandoned'; readonly purgeId: string }

const Authorized = Compile(
  Type.Object({
    statement: PurgeStatement,
    signature: Type.Object({ key_id: Type.String({ maxLength: 128 }), value: Type.String({ maxLength: 128 }) }, closed),
  }),
)
const Ended = Compile(Type.Object({ purge_id: Uuid }))

export function readPurgeNotice(record: SealedRecord): PurgeNotice | null {
  const { event } = record
  if (record.producer_id !== LEDGER_PRODUCER || event.source !== LEDGER_PRODUCER) return null
  const { context } = event
  switch (event.event_type) {
    case 'audit.purge.authorized':
      if (!Authorized.Check(context) || context.statement.tenant !== event.tenant) return null
      return { kind: 'authorized', statement: context.statement }
    case 'audit.purge.completed':
    case 'audit.purge.abandoned':
      if (!Ended.Check(context)) return null
      return {
        kind: event.event_type === 'audit.purge.completed' ? 'completed' : 'abandoned',
        purgeId: context.purge_id,
      }
    default:
      return null
  }
}

/** Statements that hold: what was given up does not. By class and month (`purgeKey`); the last one of several. */
export function purgesInForce(notices: readonly PurgeNotice[]): Map<string, PurgeStatement> {
  const abandoned = new Set(notices.flatMap((notice) => (notice.kind === 'abandoned' ? [notice.purgeId] : [])))
  const found = new Map<string, PurgeStatement>()
  for (const notice of notices) {
    if (notice.kind !== 'authorized' || abandoned.has(notice.statement.purge_id)) continue
    found.set(purgeKey(notice.statement.retention_class, notice.statement.month), notice.statement)
  }
  return found
}

export function purgeKey(retentionClass: string, month: string): string {
  return `${retentionClass} ${month}`
}
