import { cutAtMarks } from '../canonical/template.ts'
import { digestText } from '../crypto/digest.ts'
import { HmacFrame } from '../crypto/hmac.ts'
import { pae } from '../crypto/pae.ts'
import { SignetError } from '../error/signet-error.ts'
import { isValidAt, type ActiveStampKey } from '../keyring/keyring.ts'
import { SIGNET_CONTEXT, STAMP_PAYLOAD_TYPE } from './mac.ts'
import type { Canonicalization, StampClaims } from './schema.ts'
import { signStamp } from './sign.ts'

/** A complete stamp: its bytes everywhere (RFC 8785), and `sha256:…` of them. */
export type StampBytes = { readonly bytes: Buffer; readonly hash: string }

/** What differs from answer to answer, in forms that JSON need not escape: ids, digests and times as the schema has them. */
export type StampValues = {
  readonly requestId: string
  readonly traceId: string
  readonly decisionId: string
  readonly targetDigest: string
  readonly timestamp: string
  /** 64 lowercase hex digits. */
  readonly payloadHex: string
  readonly payloadLength: number
}

/** Well-formed, so that the sample is signed as any stamp is; each stands for itself nowhere else, which is checked. */
const MARKS = {
  request: 'c0ffee00-0000-7000-8000-0000000000a1',
  trace: 'c0ffee000000000000000000000000a2',
  decision: 'c0ffee00-0000-7000-8000-0000000000a3',
  target: `sha256:${'c0ffeea4'.repeat(8)}`,
  timestamp: '',
  payload: 'c0ffeea5'.repeat(8),
  length: 8_070_605_040_302_010,
}

const IDS = /^[0-9a-f-]{104}$/
const MAC_MEMBER = '"mac":"'
const MAC_MEMBER_END = '",'
const DIGEST_BYTES = 32
const LENGTH_BYTES = 8

type Nine = readonly [string, string, string, string, string, string, string, string, string]

/**
 * Signs stamps that differ in a few values only: the canonical form is that of `signStamp`, cut at those values and put together again,
 * which takes a quarter of the time. Byte for byte the same.
 */
export class StampTemplate {
  readonly #key: ActiveStampKey
  /** Around request id, trace id, mac, payload digest, payload length, decision id, target digest and timestamp. */
  readonly #pieces: Nine
  /** What is signed, framed: `#digestAt` the payload digest, `#textAt` the stamp without `mac`, its length before it. */
  readonly #signed: HmacFrame
  readonly #digestAt: number
  readonly #textAt: number

  /**
   * `claims`: all but the values, which are not looked at.
   * @throws SignetError as `signStamp` does; CANONICAL_VALUE_INVALID where a claim reads like a mark of the template
   */
  constructor(claims: StampClaims, canonicalization: Canonicalization, key: ActiveStampKey) {
    const timestamp = key.notBefore
    const { stamp, jcs } = signStamp({
      claims: {
        ...claims,
        data_lineage: { ...claims.data_lineage, request_id: MARKS.request, trace_id: MARKS.trace },
        policy: { ...claims.policy, decision_id: MARKS.decision },
        subject: { ...claims.subject, target_digest: MARKS.target },
        timestamp_utc: timestamp,
      },
      canonicalization,
      payloadDigest: Buffer.from(MARKS.payload, 'hex'),
      payloadLength: MARKS.length,
      key,
    })
    const { mac } = stamp.integrity
    const { request, trace, payload, length, decision, target } = MARKS
    const marks = [request, trace, mac, payload, String(length), decision, target, timestamp]
    this.#pieces = cutAtMarks(jcs, marks) as unknown as Nine
    this.#key = key
    const before = pae(SIGNET_CONTEXT, STAMP_PAYLOAD_TYPE, Buffer.alloc(DIGEST_BYTES))
    this.#digestAt = before.length - DIGEST_BYTES
    this.#textAt = before.length + LENGTH_BYTES
    this.#signed = new HmacFrame(
      key.secret,
      Buffer.concat([before, Buffer.alloc(LENGTH_BYTES + Buffer.byteLength(jcs))]),
    )
  }

  /**
   * @throws SignetError STAMP_INVALID when an id is no UUID, or no trace id; STAMP_KEY_INVALID when the key is not valid at `timestamp`
   */
  sign(values: StampValues): StampBytes {
    const { requestId, traceId, decisionId, targetDigest, timestamp, payloadHex, payloadLength } = values
    if (!IDS.test(requestId + traceId + decisionId))
      throw new SignetError('STAMP_INVALID', 'an id of the stamp is none')
    if (!isValidAt(this.#key, timestamp))
      throw new SignetError('STAMP_KEY_INVALID', `key «${this.#key.keyId}» is not valid at ${timestamp}`)
    const [p0, p1, p2, p3, p4, p5, p6, p7, p8] = this.#pieces
    const head = `${p0}${requestId}${p1}${traceId}${p2}`
    const tail = `${p3}${payloadHex}${p4}${payloadLength}${p5}${decisionId}${p6}${targetDigest}${p7}${timestamp}${p8}`
    const bytes = Buffer.from(`${head}${this.#mac(payloadHex, head, tail)}${tail}`)
    return { bytes, hash: digestText(bytes) }
  }

  /** Over the stamp without its member `mac`, which is between `head` and `tail`. */
  #mac(payloadHex: string, head: string, tail: string): string {
    const { message } = this.#signed
    const text = head.slice(0, -MAC_MEMBER.length) + tail.slice(MAC_MEMBER_END.length)
    message.write(payloadHex, this.#digestAt, 'hex')
    const length = message.write(text, this.#textAt, 'utf8')
    message.writeUInt32BE(length, this.#textAt - 4)
    return this.#signed.mac(this.#textAt + length)
  }
}
