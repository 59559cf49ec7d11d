import { sign, verify, type KeyObject } from 'node:crypto'
import Type from 'typebox'
import { Compile } from 'typebox/compile'
import { canonicalize } from '../canonical/jcs.ts'
import { pae } from '../crypto/pae.ts'
import { SignetError } from '../error/signet-error.ts'
import { parseStrict } from '../json/strict.ts'
import { Digest, TimestampUtc } from '../stamp/schema.ts'

/** The files of a package besides the one with the records, in the order in which they are in the archive. */
export const PACKAGE_FILES = {
  readme: 'README.txt',
  keys: 'keys.json',
  checkpoint: 'checkpoint',
  proofs: 'proofs.ndjson',
  manifest: 'manifest.json',
  /** Where an authority is configured: an RFC 3161 token over the bytes of the manifest. */
  timestamp: 'manifest.tst',
} as const
export const EXPORT_FORMATS = ['ndjson', 'json', 'csv'] as const
export type ExportFormat = (typeof EXPORT_FORMATS)[number]

export function recordsFile(format: ExportFormat): string {
  return `records.${format}`
}

/** Kinds of what is scrubbed: by the name of its field, or by what it looks like. */
export const SCRUBBED_KINDS = ['field', 'private-key', 'token', 'password', 'payment-card'] as const
export type ScrubbedKind = (typeof SCRUBBED_KINDS)[number]

const Count = Type.Integer({ minimum: 0, maximum: Number.MAX_SAFE_INTEGER })
const Name = Type.String({ minLength: 1, maxLength: 512 })

/** What was scrubbed in all: `paths` are JSON Pointers into records with how often; `more_paths`: there were others besides. */
export const Scrubbing = Type.Object(
  {
    applied: Type.Boolean(),
    records: Count,
    values: Count,
    kinds: Type.Record(Type.String(), Count),
    paths: Type.Record(Type.String(), Count),
    more_paths: Type.Boolean(),
  },
  { additionalProperties: false },
)
export type Scrubbing = Type.Static<typeof Scrubbing>

/** `manifest.json` of an export, version 1: its RFC 8785 bytes. */
export const ExportManifest = Type.Object(
  {
    version: Type.Literal(1),
    export_id: Name,
    tenant: Name,
    requested_by: Name,
    made_at: TimestampUtc,
    format: Type.Enum(EXPORT_FORMATS),
    raw: Type.Boolean(),
    /** As asked for, defaults filled in. */
    query: Type.Record(Type.String(), Type.String()),
    /** Records in the package; the chain was searched up to `head_seq`. */
    records: Count,
    head_seq: Count,
    checkpoint: Type.Object({ origin: Name, size: Count }, { additionalProperties: false }),
    files: Type.Array(Type.Object({ name: Name, bytes: Count, sha256: Digest }, { additionalProperties: false }), {
      maxItems: 16,
    }),
    scrubbing: Scrubbing,
    key_id: Name,
    signature: Type.String({ pattern: '^[A-Za-z0-9_-]{86}$' }),
  },
  { additionalProperties: false },
)
export type ExportManifest = Type.Static<typeof ExportManifest>

const CONTEXT = 'SignetV1'
const TYPE = 'application/vnd.signet.export-manifest.v1+json'
const validator = Compile(ExportManifest)

/** Ed25519 over PAE("SignetV1", "application/vnd.signet.export-manifest.v1+json", JCS of the manifest without `signature`). */
export function signManifest(unsigned: Omit<ExportManifest, 'signature'>, privateKey: KeyObject): ExportManifest {
  return { ...unsigned, signature: sign(null, signedBytes(unsigned), privateKey).toString('base64url') }
}

/** @throws SignetError EXPORT_INVALID for bytes that are no manifest, or not its canonical form */
export function readManifest(bytes: Buffer): ExportManifest {
  let value: unknown
  try {
    value = parseStrict(bytes)
  } catch (cause) {
    throw new SignetError('EXPORT_INVALID', 'manifest.json is not strict JSON', { cause })
  }
  if (!validator.Check(value)) {
    const fault = validator.Errors(value)[0]
    throw new SignetError('EXPORT_INVALID', `manifest.json: ${fault?.instancePath || '/'} ${fault?.message ?? ''}`)
  }
  if (canonicalize(value) !== bytes.toString('utf8'))
    throw new SignetError('EXPORT_INVALID', 'manifest.json is not in canonical form (RFC 8785)')
  return value
}

/** Whether one of the keys made the signature. */
export function isManifestSignedBy(manifest: ExportManifest, publicKey: KeyObject): boolean {
  const { signature, ...unsigned } = manifest
  return verify(null, signedBytes(unsigned), publicKey, Buffer.from(signature, 'base64url'))
}

function signedBytes(unsigned: Omit<ExportManifest, 'signature'>): Buffer {
  return pae(CONTEXT, TYPE, canonicalize(unsigned))
}
