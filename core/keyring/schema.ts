import Type from 'typebox'
import { TimestampUtc } from '../stamp/schema.ts'

const Name = Type.String({ minLength: 1, maxLength: 512 })
const Base64Url = Type.String({ pattern: '^[A-Za-z0-9_-]+$' })
const Validity = {
  key_id: Name,
  not_before: TimestampUtc,
  not_after: TimestampUtc,
  /** From this moment on, nothing signed at or after it verifies. */
  revoked_at: Type.Optional(TimestampUtc),
}

/** Signs stamps. The key, never the stamp, fixes algorithm, producer and tenant. `secret`: 32 bytes or more. */
export const StampKey = Type.Object(
  {
    use: Type.Literal('stamp'),
    alg: Type.Literal('HMAC-SHA256'),
    producer_id: Name,
    tenant: Name,
    secret: Base64Url,
    ...Validity,
  },
  { additionalProperties: false },
)
/** Chains links. Held by the ledger only. */
export const ChainKey = Type.Object(
  { use: Type.Literal('chain'), alg: Type.Literal('HMAC-SHA256'), secret: Base64Url, ...Validity },
  { additionalProperties: false },
)
/** Signs acknowledgements. `public_key`: SPKI DER, `private_key` (the ledger only): PKCS#8 DER, both base64url. */
export const AckKey = Type.Object(
  {
    use: Type.Literal('ack'),
    alg: Type.Literal('Ed25519'),
    public_key: Base64Url,
    private_key: Type.Optional(Base64Url),
    ...Validity,
  },
  { additionalProperties: false },
)
/** Stamp keys are derived from it, one for each tenant, producer and day (`derived.ts`). Held by the ledger, and by who verifies. */
export const StampRoot = Type.Object(
  { use: Type.Literal('stamp-root'), alg: Type.Literal('HKDF-SHA256'), secret: Base64Url, ...Validity },
  { additionalProperties: false },
)
/**
 * Issues certificates to workloads. `certificate`: X.509 DER, `private_key` (the ledger only): PKCS#8 DER, both base64url. `alg`: that of
 * the key, ECDSA on P-256.
 */
export const WorkloadCa = Type.Object(
  {
    use: Type.Literal('workload-ca'),
    alg: Type.Literal('ECDSA-P256'),
    certificate: Base64Url,
    private_key: Type.Optional(Base64Url),
    ...Validity,
  },
  { additionalProperties: false },
)
/**
 * Wraps the keys of data subjects in the ledger's work database (`docs/reference/sealing.md`). `secret`: 32 bytes. Held by the ledger only; nothing
 * needs it to verify.
 */
export const SealMaster = Type.Object(
  { use: Type.Literal('seal-master'), alg: Type.Literal('XAES-256-GCM'), secret: Base64Url, ...Validity },
  { additionalProperties: false },
)

/** Uses that this version knows; the others are a later version's (`parseKeyring`). */
export const KEY_USES: readonly string[] = ['stamp', 'chain', 'ack', 'stamp-root', 'workload-ca', 'seal-master']

/** The keyring file: JSON, version 1. The first key of a use that is valid now signs. */
export const Keyring = Type.Object(
  {
    version: Type.Literal(1),
    keys: Type.Array(Type.Union([StampKey, ChainKey, AckKey, StampRoot, WorkloadCa, SealMaster]), { maxItems: 10_000 }),
  },
  { additionalProperties: false },
)
export type Keyring = Type.Static<typeof Keyring>
export type StampKey = Type.Static<typeof StampKey>
export type ChainKey = Type.Static<typeof ChainKey>
export type AckKey = Type.Static<typeof AckKey>
export type StampRoot = Type.Static<typeof StampRoot>
export type SealMaster = Type.Static<typeof SealMaster>
export type WorkloadCa = Type.Static<typeof WorkloadCa>
