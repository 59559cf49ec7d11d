import { SignetError } from '#core/error/signet-error.ts'
import type { Judgement } from '#core/policy/join.ts'
import { formatStampHeader } from '#core/stamp/header.ts'
import type { Canonicalization, StampClaims } from '#core/stamp/schema.ts'
import { signStamp, type SignedStamp } from '#core/stamp/sign.ts'
import type { ExchangeContext } from '../exchange/context.ts'
import type { StampKeys } from '../keys.ts'
import type { ProxyMetrics } from '../metrics.ts'
import type { StampStore } from '../stamps/store.ts'
import type { Answer } from './gather.ts'
import type { Inspection } from './inspect.ts'
import type { DecisionRecorder } from './recorder.ts'

/** Digest and length of what is stamped, in the form that `canonicalization` names. */
export type Payload = { readonly digest: Buffer; readonly length: number; readonly canonicalization: Canonicalization }

/** Issues stamps: claims from the judgement and the lineage, signature, audit event, store. In that order: a stamp that is not audited does not exist. */
export class StampIssuer {
  readonly #keys: StampKeys
  readonly #recorder: DecisionRecorder
  readonly #store: StampStore
  readonly #metrics: ProxyMetrics
  readonly #newDecisionId: () => string
  readonly #publicBaseUrl: string
  readonly #headerMaxBytes: number

  constructor(deps: {
    keys: StampKeys
    recorder: DecisionRecorder
    store: StampStore
    metrics: ProxyMetrics
    newDecisionId: () => string
    publicBaseUrl: string | null
    headerMaxBytes: number
  }) {
    this.#keys = deps.keys
    this.#recorder = deps.recorder
    this.#store = deps.store
    this.#metrics = deps.metrics
    this.#newDecisionId = deps.newDecisionId
    this.#publicBaseUrl = deps.publicBaseUrl ?? ''
    this.#headerMaxBytes = deps.headerMaxBytes
  }

  /** Throws PROXY_NOT_READY where no key is valid: asked before the first byte of a stream leaves. */
  requireKey(nowMs: number): void {
    this.#keys.active(nowMs)
  }

  /** `size`: the payload's length as the event shows it. The decision id is in stamp and event; it is public, so it is not the event's own id. */
  issue(
    context: ExchangeContext,
    answer: Answer,
    judgement: Judgement,
    inspection: Inspection,
    payload: Payload,
    nowMs: number,
  ): SignedStamp {
    const decisionId = this.#newDecisionId()
    const signed = sign({
      claims: claimsOf(context, answer, judgement, inspection, decisionId, nowMs),
      canonicalization: payload.canonicalization,
      payloadDigest: payload.digest,
      payloadLength: payload.length,
      key: this.#keys.active(nowMs),
    })
    this.#recorder.record(
      context,
      answer,
      judgement,
      {
        decisionId,
        eventType: 'egress.completed',
        action: 'stamp',
        payloadLength: payload.length,
        stampHash: signed.hash,
      },
      signed.jcs,
    )
    this.#store.add(context.requestId, {
      jcs: signed.jcs,
      hash: signed.hash,
      channel: context.channel,
      tenant: context.tenant,
    })
    this.#metrics.stampsIssued.inc({ tenant: context.tenant })
    return signed
  }

  /** The `Compliance-Stamp` value: the hash alone where the body holds the stamp, or where the stamp is past the header budget. */
  header(signed: SignedStamp, embedded: boolean): string {
    if (embedded) return formatStampHeader(signed.hash, null)
    const whole = formatStampHeader(signed.hash, signed.jcs)
    return whole.length <= this.#headerMaxBytes ? whole : formatStampHeader(signed.hash, null)
  }

  link(hash: string): string {
    return `<${this.#publicBaseUrl}/.well-known/signet/stamps/${hash}>; rel="describedby"`
  }

  requestLink(requestId: string): string {
    return `<${this.#publicBaseUrl}/.well-known/signet/requests/${requestId}>; rel="describedby"`
  }
}

/** Members in the order of the canonical form, which spares it the sorting. */
function claimsOf(
  context: ExchangeContext,
  answer: Answer,
  judgement: Judgement,
  inspection: Inspection,
  decisionId: string,
  nowMs: number,
): StampClaims {
  const { lineage } = answer
  const replaced = inspection.verified
  // Never before what it derives from, even when that clock is ahead of ours.
  const upstreamMs = Math.max(
    lineage.timestampUtc === undefined ? 0 : Date.parse(lineage.timestampUtc),
    replaced === null ? 0 : Date.parse(replaced.stamp.timestamp_utc),
  )
  return {
    approval_status: replaced?.stamp.approval_status === 'rejected' ? 'rejected' : judgement.approvalStatus,
    data_classification: judgement.classification,
    data_lineage: {
      ...(lineage.inputHash === undefined ? {} : { input_hash: lineage.inputHash }),
      ...(lineage.modelVersion === undefined ? {} : { model_version: lineage.modelVersion }),
      producer_id: context.producerId,
      request_id: context.requestId,
      source_assets:
        replaced === null ? [...lineage.sourceAssets] : [...lineage.sourceAssets, `urn:signet:stamp@${replaced.hash}`],
      trace_id: context.traceId,
      transformations: [...lineage.transformations],
    },
    policy: { bundle_revision: context.policy.revision, decision_id: decisionId },
    regulatory_compliance:
      replaced === null
        ? [...judgement.regulations]
        : joined(judgement.regulations, replaced.stamp.regulatory_compliance),
    stamp_version: 'v1',
    subject: {
      channel: context.channel,
      media_type: answer.mediaType,
      method: context.method,
      status: answer.status,
      target_digest: context.targetDigest,
      tenant: context.tenant,
    },
    timestamp_utc: new Date(Math.max(nowMs, upstreamMs)).toISOString(),
  }
}

function joined(a: readonly string[], b: readonly string[]): string[] {
  const all = new Set([...a, ...b])
  if (all.size > 1) all.delete('NONE')
  return [...all].sort()
}

/** What keeps a stamp from being made is no fault of the client: the answer, or our key. */
function sign(toSign: Parameters<typeof signStamp>[0]): SignedStamp {
  try {
    return signStamp(toSign)
  } catch (cause) {
    if (!(cause instanceof SignetError)) throw cause
    if (cause.code === 'STAMP_KEY_INVALID') {
      throw new SignetError('PROXY_NOT_READY', 'The stamp key is not valid for this stamp', { cause })
    }
    throw new SignetError('UPSTREAM_INVALID', `The answer cannot be described by a stamp: ${cause.message}`, { cause })
  }
}
