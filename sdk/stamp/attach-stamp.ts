import { randomBytes, randomUUID } from 'node:crypto'
import { SignetError } from '#core/error/signet-error.ts'
import { scanStructure } from '#core/json/scan.ts'
import { indexKeyring, parseKeyring } from '#core/keyring/keyring.ts'
import { formatStampHeader } from '#core/stamp/header.ts'
import { digestPayload, type PayloadDigest } from '#core/stamp/payload.ts'
import { regulationList } from '#core/stamp/regulation.ts'
import type { ApprovalStatus, Canonicalization, Channel, Classification } from '#core/stamp/schema.ts'
import { signStamp, type SignedStamp } from '#core/stamp/sign.ts'
import { embedStamp } from '#core/stamp/splice.ts'
import { targetDigest } from '#core/stamp/subject.ts'

/** Signs a payload's digest. */
export type StampSigner = (payload: PayloadDigest, context: StampContext) => SignedStamp

/** What a program says of what it stamps. Nobody checks it: it is the word of whoever has the key. */
export type StampContext = {
  readonly classification: Classification
  /** Codes of the registry; `NONE` where there are none. */
  readonly regulations?: readonly string[]
  /** Default `draft`. */
  readonly approvalStatus?: ApprovalStatus
  /** Immutable ids (`urn:…@sha256:…`) of what it was made from, and how. */
  readonly sourceAssets?: readonly string[]
  readonly transformations?: readonly string[]
  readonly modelVersion?: string
  readonly inputHash?: string
  /** Path and query that it will be asked for by: `/exports/q3.csv`. */
  readonly target: string
  /** Default `GET` and 200. */
  readonly method?: string
  readonly status?: number
  /** `type/subtype`, lower case; empty for none. */
  readonly mediaType: string
  readonly channel: Channel
  /** The rules that it was made under, for example the revision of a job's own checks. */
  readonly policyRevision: string
  readonly decisionId?: string
  /** Default: a new UUID; a new trace. */
  readonly requestId?: string
  readonly traceId?: string
  /** Default `bytes`. `jcs` survives re-serialising. */
  readonly canonicalization?: Canonicalization
}

export type StampedPayload = SignedStamp & {
  /** With the stamp inside where that can be, else the payload as it was. */
  readonly content: Buffer
  readonly embedded: boolean
  /** The value of `Compliance-Stamp` beside this content. */
  readonly header: string
}

const TRACE_BYTES = 16

/**
 * A signer for programs that stamp by themselves, with the stamp key of a keyring that is valid at the time.
 * @throws SignetError KEYRING_INVALID; when it signs STAMP_KEY_INVALID where no key is valid, STAMP_INVALID for a bad context
 */
export function stampSigner(
  keyringText: string,
  { tenant, producerId, now = () => new Date() }: { tenant: string; producerId: string; now?: () => Date },
): StampSigner {
  const keyring = indexKeyring(parseKeyring(keyringText))
  return ({ digest, length }, context) => {
    const at = now()
    const key = keyring.activeStampKey({ producerId, tenant, at })
    if (key === undefined)
      throw new SignetError(
        'STAMP_KEY_INVALID',
        `the keyring has no stamp key of producer «${producerId}» and tenant «${tenant}» that is valid at ${at.toISOString()}`,
      )
    return signStamp({
      claims: claimsOf(context, { tenant, producerId, timestamp: at.toISOString() }),
      canonicalization: context.canonicalization ?? 'bytes',
      payloadDigest: digest,
      payloadLength: length,
      key,
    })
  }
}

/**
 * Stamps a payload: inside, where it is a JSON object of a JSON media type, else for the header or a sidecar (`jcs` is the sidecar's content).
 * @throws SignetError STAMP_INVALID for a bad context, or a payload that has a `_compliance` already; STAMP_KEY_INVALID;
 * JSON_INVALID or CANONICAL_VALUE_INVALID for a payload without a canonical form under `jcs`, or a JSON media type over what is none
 */
export function attachStamp(payload: Uint8Array, context: StampContext, sign: StampSigner): StampedPayload {
  const bytes = Buffer.from(payload.buffer, payload.byteOffset, payload.byteLength)
  const object = isJson(context.mediaType) ? scanObject(bytes) : null
  const signed = sign(digestPayload(bytes, context.canonicalization ?? 'bytes'), context)
  if (object === null)
    return { ...signed, content: bytes, embedded: false, header: formatStampHeader(signed.hash, signed.jcs) }
  const content = embedStamp(bytes, object.closeBrace, object.isEmpty, signed.jcs)
  return { ...signed, content, embedded: true, header: formatStampHeader(signed.hash, null) }
}

/** RFC 6839, as the proxy reads it. */
function isJson(mediaType: string): boolean {
  return mediaType === 'application/json' || mediaType === 'text/json' || mediaType.endsWith('+json')
}

function scanObject(bytes: Buffer) {
  const scan = scanStructure(bytes)
  if (scan.complianceMembers > 0)
    throw new SignetError('STAMP_INVALID', 'the payload has a member `_compliance` already: stamp it without')
  return scan.kind === 'object' ? scan : null
}

function claimsOf(context: StampContext, by: { tenant: string; producerId: string; timestamp: string }) {
  const { modelVersion, inputHash } = context
  return {
    stamp_version: 'v1' as const,
    timestamp_utc: by.timestamp,
    data_classification: context.classification,
    regulatory_compliance: regulationList(context.regulations ?? []),
    approval_status: context.approvalStatus ?? 'draft',
    data_lineage: {
      producer_id: by.producerId,
      source_assets: [...(context.sourceAssets ?? [])],
      transformations: [...(context.transformations ?? [])],
      ...(modelVersion === undefined ? {} : { model_version: modelVersion }),
      ...(inputHash === undefined ? {} : { input_hash: inputHash }),
      request_id: context.requestId ?? randomUUID(),
      trace_id: context.traceId ?? randomBytes(TRACE_BYTES).toString('hex'),
    },
    subject: {
      tenant: by.tenant,
      method: context.method ?? 'GET',
      target_digest: targetDigest(Buffer.from(context.target, 'latin1')),
      status: context.status ?? 200,
      media_type: context.mediaType,
      channel: context.channel,
    },
    policy: { bundle_revision: context.policyRevision, decision_id: context.decisionId ?? randomUUID() },
  }
}
