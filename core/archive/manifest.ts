import { sign, verify, type KeyObject } from 'node:crypto'
import Type from 'typebox'
import { Compile } from 'typebox/compile'
import { canonicalize } from '../canonical/jcs.ts'
import { pae } from '../crypto/pae.ts'
import { SignetError } from '../error/signet-error.ts'
import { parseStrict } from '../json/strict.ts'
import { Digest, TimestampUtc } from '../stamp/schema.ts'

const Count = Type.Integer({ minimum: 0, maximum: Number.MAX_SAFE_INTEGER })
const Name = Type.String({ minLength: 1, maxLength: 512 })
const Month = Type.String({ pattern: '^\\d{4}-\\d{2}-01$' })
const Hash = Type.String({ pattern: '^[0-9a-f]{64}$' })

/**
 * One object of the store. `sha256` and `bytes` are of the object as stored (gzip); `rows`: lines in it. `version`: the store's name of what
 * was written, where later ones may be under the same key.
 */
export const ArchiveObject = Type.Object(
  {
    key: Type.String({ minLength: 1, maxLength: 1_024 }),
    version: Type.Optional(Type.String({ minLength: 1, maxLength: 1_024 })),
    sha256: Digest,
    bytes: Count,
    rows: Count,
    retain_until: TimestampUtc,
  },
  { additionalProperties: false },
)
export type ArchiveObject = Type.Static<typeof ArchiveObject>

/** The records of one month of a class of a tenant, in all that snapshots have of them. */
export const ArchivePart = Type.Object(
  {
    retention_class: Name,
    month: Month,
    first_seq: Count,
    last_seq: Count,
    records: Count,
    objects: Type.Array(ArchiveObject),
    stamps: Type.Array(ArchiveObject),
  },
  { additionalProperties: false },
)
export type ArchivePart = Type.Static<typeof ArchivePart>

/** A tenant's chain from its first link to `last_seq`, whose link has `head`. */
export const ArchiveTenant = Type.Object(
  { tenant: Name, last_seq: Count, head: Hash, links: Type.Array(ArchiveObject), parts: Type.Array(ArchivePart) },
  { additionalProperties: false },
)
export type ArchiveTenant = Type.Static<typeof ArchiveTenant>

/** `manifest.json` of a snapshot, version 1: its RFC 8785 bytes. It names every object that the whole log up to its checkpoint is in. */
export const ArchiveManifest = Type.Object(
  {
    version: Type.Literal(1),
    snapshot: Type.String({ pattern: '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$' }),
    made_at: TimestampUtc,
    /** Signed note (C2SP tlog-checkpoint). */
    checkpoint: Type.String({ minLength: 1, maxLength: 65_536 }),
    tree_size: Count,
    tenants: Type.Array(ArchiveTenant),
    /** Which link is which leaf, incremental; and tables that are whole in each snapshot. */
    runs: Type.Array(ArchiveObject),
    tables: Type.Record(Name, Type.Array(ArchiveObject)),
    /** Public ack keys (Ed25519, SubjectPublicKeyInfo in base64url): information for people, no reason to trust them. */
    keys: Type.Array(Type.Object({ key_id: Name, public_key: Name }, { additionalProperties: false }), {
      maxItems: 1_000,
    }),
    key_id: Name,
    signature: Type.String({ pattern: '^[A-Za-z0-9_-]{86}$' }),
  },
  { additionalProperties: false },
)
export type ArchiveManifest = Type.Static<typeof ArchiveManifest>

const CONTEXT = 'SignetV1'
const TYPE = 'application/vnd.signet.archive-manifest.v1+json'
const validator = Compile(ArchiveManifest)

/** Ed25519 over PAE("SignetV1", "application/vnd.signet.archive-manifest.v1+json", JCS of the manifest without `signature`). */
export function signArchive(unsigned: Omit<ArchiveManifest, 'signature'>, privateKey: KeyObject): ArchiveManifest {
  return { ...unsigned, signature: sign(null, signedBytes(unsigned), privateKey).toString('base64url') }
}

/** @throws SignetError ARCHIVE_INVALID for bytes that are no manifest in canonical form, or that none of the keys signed */
export function readArchiveManifest(bytes: Buffer, publicKeys: readonly KeyObject[]): ArchiveManifest {
  let value: unknown
  try {
    value = parseStrict(bytes)
  } catch (cause) {
    throw new SignetError('ARCHIVE_INVALID', 'the manifest is not strict JSON', { cause })
  }
  if (!validator.Check(value)) {
    const fault = validator.Errors(value)[0]
    throw new SignetError('ARCHIVE_INVALID', `the manifest: ${fault?.instancePath || '/'} ${fault?.message ?? ''}`)
  }
  if (canonicalize(value) !== bytes.toString('utf8'))
    throw new SignetError('ARCHIVE_INVALID', 'the manifest is not in canonical form (RFC 8785)')
  const { signature, ...unsigned } = value
  const message = signedBytes(unsigned)
  if (!publicKeys.some((key) => verify(null, message, key, Buffer.from(signature, 'base64url'))))
    throw new SignetError('ARCHIVE_INVALID', 'no key that is known here signed the manifest')
  return value
}

function signedBytes(unsigned: Omit<ArchiveManifest, 'signature'>): Buffer {
  return pae(CONTEXT, TYPE, canonicalize(unsigned))
}
