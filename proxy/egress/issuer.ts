import { SignetError } from '#core/error/signet-error.ts'
import type { Judgement } from '#core/policy/join.ts'
import { formatStampHeader } from '#core/stamp/header.ts'
import type { Canonicalization, StampClaims } from '#core/stamp/schema.ts'
import { signStamp } from '#core/stamp/sign.ts'
import type { StampBytes } from '#core/stamp/template.ts'
import { formatTime } from '#core/time/timestamp.ts'
import type { ExchangeContext } from '../exchange/context.ts'
import { NO_LINEAGE } from '../lineage.ts'
import type { StampKeys } from '../keys.ts'
import type { ProxyMetrics } from '../metrics.ts'
import type { StampStore } from '../stamps/store.ts'
import type { Series } from '../tally.ts'
import type { Answer } from './gather.ts'
import type { Inspection } from './inspect.ts'
import type { DecisionRecorder } from './recorder.ts'
import { AnswerTemplates } from './templates.ts'

/** SHA-256 (64 lowercase hex digits) and length of what is stamped, in the form that `canonicalization` names. */
export type Payload = { readonly hex: string; readonly length: number; readonly canonicalization: Canonicalization }

/**
 * Issues stamps: claims from the judgement and the lineage, signature, audit event. A stamp that is not audited does not exist: it is
 * published, and counted, when its event is written.
 */
export class StampIssuer {
  readonly #keys: StampKeys
  readonly #recorder: DecisionRecorder
  readonly #store: StampStore
  readonly #issued: Series
  readonly #newDecisionId: () => string
  readonly #publicBaseUrl: string
  readonly #headerMaxBytes: number
  readonly #templates = new AnswerTemplates()

  constructor(deps: {
    keys: StampKeys
    recorder: DecisionRecorder
    store: StampStore
    metrics: Pick<ProxyMetrics, 'stampsIssued'>
    tenant: string
    newDecisionId: () => string
    publicBaseUrl: string | null
    headerMaxBytes: number
  }) {
    this.#keys = deps.keys
    this.#recorder = deps.recorder
    this.#store = deps.store
    this.#issued = deps.metrics.stampsIssued.series({ tenant: deps.tenant })
    this.#newDecisionId = deps.newDecisionId
    this.#publicBaseUrl = deps.publicBaseUrl ?? ''
    this.#headerMaxBytes = deps.headerMaxBytes
  }

  /** Throws PROXY_NOT_READY where no key is valid: asked before the first byte of a stream leaves. */
  requireKey(nowMs: number): void {
    this.#keys.active(nowMs)
  }

  /** Signs a stamp and records it. The decision id is in stamp and event; it is public, so it is not the event's own id. */
  issue(
    context: ExchangeContext,
    answer: Answer,
    judgement: Judgement,
    inspection: Inspection,
    payload: Payload,
    nowMs: number,
  ): StampBytes {
    const decisionId = this.#newDecisionId()
    const { canonicalization, hex, length } = payload
    const signing = { canonicalization, key: this.#keys.active(nowMs) }
    const claims = (): StampClaims => claimsOf(context, answer, judgement, inspection, decisionId, nowMs)
    const isPlain = answer.lineage === NO_LINEAGE && inspection.verified === null
    const template = isPlain ? this.#templates.find(context, answer, judgement, signing, claims) : null
    if (template === null) {
      const payloadDigest = Buffer.from(hex, 'hex')
      const { jcs, hash } = translated(() =>
        signStamp({ ...signing, claims: claims(), payloadDigest, payloadLength: length }),
      )
      const signed = { bytes: Buffer.from(jcs), hash }
      const made = { decisionId, eventType: 'egress.completed', action: 'stamp', payloadLength: length } as const
      this.#recorder.record(context, answer, judgement, { ...made, stampHash: hash }, signed.bytes)
      return signed
    }
    const timestamp = formatTime(nowMs)
    const { requestId, traceId, targetDigest } = context
    const values = { requestId, traceId, targetDigest, decisionId, timestamp, payloadHex: hex, payloadLength: length }
    const signed = translated(() => template.stamp.sign(values))
    const event = { decisionId, stampHash: signed.hash, payloadLength: length, timestamp }
    this.#recorder.recordAlike(context, template.event, event, signed.bytes)
    return signed
  }

  /** The event of this stamp is written: it can be looked up, and counts. */
  publish(context: ExchangeContext, { bytes, hash }: StampBytes): void {
    const { requestId, channel, tenant } = context
    this.#store.add(requestId, { jcs: bytes, hash, channel, tenant })
    this.#issued.inc()
  }

  /** The `Compliance-Stamp` value: the hash alone where the body holds the stamp, or where the stamp is past the header budget. */
  header(signed: StampBytes, embedded: boolean): string {
    if (embedded) return formatStampHeader(signed.hash, null)
    const whole = formatStampHeader(signed.hash, signed.bytes)
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
    timestamp_utc: formatTime(Math.max(nowMs, upstreamMs)),
  }
}

function joined(a: readonly string[], b: readonly string[]): string[] {
  const all = new Set([...a, ...b])
  if (all.size > 1) all.delete('NONE')
  return [...all].sort()
}

/** What keeps a stamp from being made is no fault of the client: the answer, or our key. */
function translated<Signed>(sign: () => Signed): Signed {
  try {
    return sign()
  } catch (cause) {
    if (!(cause instanceof SignetError)) throw cause
    if (cause.code === 'STAMP_KEY_INVALID') {
      throw new SignetError('PROXY_NOT_READY', 'The stamp key is not valid for this stamp', { cause })
    }
    throw new SignetError('UPSTREAM_INVALID', `The answer cannot be described by a stamp: ${cause.message}`, { cause })
  }
}
