import { sign, verify, type KeyObject } from 'node:crypto'
import Type from 'typebox'
import { Compile } from 'typebox/compile'
import { canonicalize } from '../canonical/jcs.ts'
import { pae } from '../crypto/pae.ts'
import { SignetError } from '../error/signet-error.ts'
import { parseStrict } from '../json/strict.ts'
import { TimestampUtc } from '../stamp/schema.ts'

const Head = Type.Object(
  {
    size: Type.Integer({ minimum: 0, maximum: Number.MAX_SAFE_INTEGER }),
    root: Type.String({ pattern: '^[0-9a-f]{64}$' }),
  },
  { additionalProperties: false },
)
export type StatedHead = Type.Static<typeof Head>

export const MAX_RESTORES = 999_999

/**
 * That a wall was restored on purpose: its tree goes on from `continues`, and what the archive has beyond that, up to `gives_up`, is given up.
 * `number`: 1 for the first of an archive, then one more each.
 */
export const RestoreStatement = Type.Object(
  {
    version: Type.Literal(1),
    number: Type.Integer({ minimum: 1, maximum: MAX_RESTORES }),
    /** Name of the log. */
    origin: Type.String({ minLength: 1, maxLength: 512 }),
    at: TimestampUtc,
    continues: Head,
    gives_up: Head,
    reason: Type.String({ minLength: 1, maxLength: 2_000 }),
    by: Type.String({ minLength: 1, maxLength: 512 }),
    key_id: Type.String({ minLength: 1, maxLength: 512 }),
    signature: Type.String({ pattern: '^[A-Za-z0-9_-]{86}$' }),
  },
  { additionalProperties: false },
)
export type RestoreStatement = Type.Static<typeof RestoreStatement>

const CONTEXT = 'SignetV1'
const TYPE = 'application/vnd.signet.archive-restore.v1+json'
const validator = Compile(RestoreStatement)

/** Ed25519 over PAE("SignetV1", "application/vnd.signet.archive-restore.v1+json", JCS of the statement without `signature`). */
export function signRestore(unsigned: Omit<RestoreStatement, 'signature'>, privateKey: KeyObject): RestoreStatement {
  return { ...unsigned, signature: sign(null, signedBytes(unsigned), privateKey).toString('base64url') }
}

/** @throws SignetError ARCHIVE_INVALID for bytes that are no statement in canonical form, or that none of the keys signed */
export function readRestore(bytes: Buffer, publicKeys: readonly KeyObject[]): RestoreStatement {
  let value: unknown
  try {
    value = parseStrict(bytes)
  } catch (cause) {
    throw new SignetError('ARCHIVE_INVALID', 'the statement of a restore is not strict JSON', { cause })
  }
  if (!validator.Check(value)) {
    const fault = validator.Errors(value)[0]
    throw new SignetError(
      'ARCHIVE_INVALID',
      `the statement of a restore: ${fault?.instancePath || '/'} ${fault?.message ?? ''}`,
    )
  }
  if (canonicalize(value) !== bytes.toString('utf8'))
    throw new SignetError('ARCHIVE_INVALID', 'the statement of a restore is not in canonical form (RFC 8785)')
  const { signature, ...unsigned } = value
  const message = signedBytes(unsigned)
  if (!publicKeys.some((key) => verify(null, message, key, Buffer.from(signature, 'base64url'))))
    throw new SignetError('ARCHIVE_INVALID', 'no key that is known here signed the statement of a restore')
  return value
}

function signedBytes(unsigned: Omit<RestoreStatement, 'signature'>): Buffer {
  return pae(CONTEXT, TYPE, canonicalize(unsigned))
}
