import { createHash, X509Certificate } from 'node:crypto'
import * as asn1js from 'asn1js'
import {
  AlgorithmIdentifier,
  Certificate,
  ExtKeyUsage,
  MessageImprint,
  SignedData,
  SignedDataVerifyError,
  TimeStampReq,
  TimeStampResp,
  TSTInfo,
  type SignedDataVerifyResult,
} from 'pkijs'
import { SignetError } from '#core/error/signet-error.ts'

/** Time-stamp requests and tokens (RFC 3161, with SHA-256 over the message). */

export const REQUEST_TYPE = 'application/timestamp-query'
export const RESPONSE_TYPE = 'application/timestamp-reply'
/** A token with its certificates has a few KB. */
export const MAX_RESPONSE_BYTES = 256 * 1024

const SHA256_OID = '2.16.840.1.101.3.4.2.1'
const EXTENDED_KEY_USAGE_OID = '2.5.29.37'
const TIME_STAMPING_OID = '1.3.6.1.5.5.7.3.8'

export type VerifiedTimestamp = {
  readonly time: Date
  /** Of the authority's certificate, as OpenSSL writes it. */
  readonly authority: string
  /** Whether its certificate leads to one of the roots that were given; without roots, false. */
  readonly trusted: boolean
}

/** The request for a token over a message, in DER. `nonce`: 8 random bytes. */
export function timestampRequest(message: Uint8Array, nonce: Uint8Array): Buffer {
  const request = new TimeStampReq({
    version: 1,
    messageImprint: new MessageImprint({
      hashAlgorithm: new AlgorithmIdentifier({ algorithmId: SHA256_OID, algorithmParams: new asn1js.Null() }),
      hashedMessage: new asn1js.OctetString({ valueHex: own(createHash('sha256').update(message).digest()) }),
    }),
    nonce: new asn1js.Integer({ valueHex: own(positive(nonce)) }),
    certReq: true,
  })
  return Buffer.from(request.toSchema().toBER())
}

/**
 * The token of an answer to `timestampRequest`, in DER.
 * @throws SignetError TIMESTAMP_INVALID: refused by the authority, for another request, or no answer at all
 */
export async function tokenOf(response: Uint8Array, message: Uint8Array, nonce: Uint8Array): Promise<Buffer> {
  let parsed: TimeStampResp
  try {
    parsed = TimeStampResp.fromBER(own(response))
  } catch (cause) {
    throw new SignetError('TIMESTAMP_INVALID', 'the answer is no time-stamp response (RFC 3161)', { cause })
  }
  const status: number = parsed.status.status
  // 0 granted, 1 granted with changes.
  if (status > 1 || parsed.timeStampToken === undefined)
    throw new SignetError('TIMESTAMP_INVALID', `the authority refuses the request (status ${status})`)
  const token = Buffer.from(parsed.timeStampToken.toSchema().toBER())
  const { info } = read(token)
  const answered = info.nonce === undefined ? null : Buffer.from(info.nonce.valueBlock.valueHexView)
  if (answered === null || !answered.equals(positive(nonce)))
    throw new SignetError('TIMESTAMP_INVALID', 'the answer is not to this request: its nonce is another one')
  await verifyTimestamp(token, message, [])
  return token
}

/**
 * Checks a token over a message: digest, signature, and that the certificate may stamp times. With `roots`, also that it leads to one of them at
 * the time that it states.
 * @throws SignetError TIMESTAMP_INVALID
 */
export async function verifyTimestamp(
  token: Uint8Array,
  message: Uint8Array,
  roots: readonly X509Certificate[],
): Promise<VerifiedTimestamp> {
  const { signed, info } = read(token)
  if (info.messageImprint.hashAlgorithm.algorithmId !== SHA256_OID)
    throw new SignetError('TIMESTAMP_INVALID', 'the time stamp is not over a SHA-256 digest')
  let result: SignedDataVerifyResult
  try {
    result = await signed.verify({
      signer: 0,
      data: own(message),
      trustedCerts: roots.map(({ raw }) => Certificate.fromBER(own(raw))),
      checkChain: roots.length > 0,
      checkDate: info.genTime,
      extendedMode: true,
    })
  } catch (error) {
    // pkijs throws for anything that does not verify; its messages name the step.
    const why = error instanceof SignedDataVerifyError ? error.message : 'it cannot be read'
    throw new SignetError('TIMESTAMP_INVALID', `the time stamp does not verify: ${why.slice(0, 200)}`, { cause: error })
  }
  const { signerCertificate, signatureVerified, signerCertificateVerified } = result
  if (signatureVerified !== true || signerCertificate == null)
    throw new SignetError('TIMESTAMP_INVALID', 'the time stamp does not verify: its signature is not the authority’s')
  if (!mayStampTimes(signerCertificate))
    throw new SignetError(
      'TIMESTAMP_INVALID',
      'the time stamp is signed by a certificate that is not for time stamping',
    )
  const { subject } = new X509Certificate(Buffer.from(signerCertificate.toSchema().toBER()))
  return {
    time: info.genTime,
    authority: subject.replaceAll('\n', ', '),
    trusted: roots.length > 0 && signerCertificateVerified === true,
  }
}

function read(token: Uint8Array): { signed: SignedData; info: TSTInfo } {
  try {
    const { result, offset } = asn1js.fromBER(own(token))
    if (offset === -1) throw new Error('no DER')
    const response = result as asn1js.Sequence
    // ContentInfo ::= SEQUENCE { contentType, [0] EXPLICIT SignedData } (RFC 5652, section 3)
    const content = response.valueBlock.value[1] as asn1js.Constructed
    const signed = new SignedData({ schema: content.valueBlock.value[0] as asn1js.Sequence })
    const { eContent } = signed.encapContentInfo
    if (eContent === undefined) throw new Error('no content')
    return { signed, info: TSTInfo.fromBER(eContent.getValue()) }
  } catch (cause) {
    throw new SignetError('TIMESTAMP_INVALID', 'the time stamp is no RFC 3161 token', { cause })
  }
}

/** RFC 3161, section 2.3: its extended key usage is time stamping. */
function mayStampTimes({ extensions = [] }: Certificate): boolean {
  const usage = extensions.find(({ extnID }) => extnID === EXTENDED_KEY_USAGE_OID)?.parsedValue as
    | ExtKeyUsage
    | undefined
  return usage?.keyPurposes?.includes(TIME_STAMPING_OID) === true
}

/** A DER INTEGER of these bytes that is not negative. */
function positive(bytes: Uint8Array): Buffer {
  return Buffer.concat([Buffer.of(1), bytes])
}

/** In a buffer of its own: what asn1js takes is a whole ArrayBuffer. */
function own(bytes: Uint8Array): ArrayBuffer {
  return Uint8Array.from(bytes).buffer
}
