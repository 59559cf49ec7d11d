import { canonicalize } from '../canonical/jcs.ts'
import { SignetError } from '../error/signet-error.ts'
import { MAX_COMPLIANCE_SPANS, scanStructure } from '../json/scan.ts'
import { parseStrict } from '../json/strict.ts'

const MEMBER = '"_compliance":'
const MEMBER_AFTER_OTHERS = ',"_compliance":'
const COMMA = 0x2c
const OPEN_OBJECT = 0x7b

/**
 * The payload with its stamp: `,"_compliance":` (no comma if the object is empty) and the stamp, put in before the final `}`.
 * `closeBrace` and `isEmpty` are those of `scanStructure(payload)`, which must have found no `_compliance`.
 */
export function embedStamp(payload: Buffer, closeBrace: number, isEmpty: boolean, stampJcs: string | Buffer): Buffer {
  const stamp = typeof stampJcs === 'string' ? Buffer.from(stampJcs) : stampJcs
  const name = isEmpty ? MEMBER : MEMBER_AFTER_OTHERS
  const stampAt = closeBrace + name.length
  const stamped = Buffer.allocUnsafe(payload.length + name.length + stamp.length)
  payload.copy(stamped, 0, 0, closeBrace)
  stamped.write(name, closeBrace, 'latin1')
  stamp.copy(stamped, stampAt)
  payload.copy(stamped, stampAt + stamp.length, closeBrace)
  return stamped
}

/**
 * Takes the stamp out of a stamped JSON object: the exact bytes that were there before `embedStamp`, and the stamp's own. Null
 * when the top level has no `_compliance` (or is no object). The stamp is not verified.
 * @throws SignetError JSON_INVALID when the bytes have no JSON structure; STAMP_INVALID when there is a `_compliance` that
 * `embedStamp` would not have written: twice, escaped, not last, with white space around it, or not in canonical form
 */
export function extractStamp(bytes: Uint8Array): { payload: Buffer; stampBytes: Buffer } | null {
  const body = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  const { complianceSpans, closeBrace } = scanStructure(body)
  const [span, second] = complianceSpans
  if (span === undefined) return null
  if (second !== undefined) throw notOurs('is there more than once')
  const { nameStart, valueStart, valueEnd } = span
  if (body.toString('latin1', nameStart, valueStart) !== MEMBER)
    throw notOurs('has its name or colon written in another way')
  if (valueEnd !== closeBrace) throw notOurs('is not the last member, directly before the closing brace')
  const cutFrom = span.position === 0 ? nameStart : nameStart - 1
  if (span.position > 0 && body[cutFrom] !== COMMA) throw notOurs('does not directly follow its comma')
  const stampBytes = body.subarray(valueStart, valueEnd)
  if (stampBytes[0] !== OPEN_OBJECT) throw notOurs('is not an object')
  assertCanonical(stampBytes)
  return { payload: Buffer.concat([body.subarray(0, cutFrom), body.subarray(valueEnd)]), stampBytes }
}

/**
 * The bytes without any top-level member whose name decodes to `_compliance`: each goes with the comma before it, or, where no
 * other member stays before it, with the comma behind it. All other bytes stay as they are, so that taking out a stamp that
 * `embedStamp` put in gives the payload again. The same buffer when there is none, or no object.
 * @throws SignetError JSON_INVALID when the bytes have no JSON structure; STAMP_INVALID when there are more than 16 such members
 */
export function stripComplianceMembers(bytes: Buffer): Buffer {
  const { complianceMembers, complianceSpans, members } = scanStructure(bytes)
  if (complianceMembers === 0) return bytes
  if (complianceMembers > complianceSpans.length)
    throw notOurs(`is there ${complianceMembers} times, where ${MAX_COMPLIANCE_SPANS} are taken out at most`)
  const kept: Buffer[] = []
  let from = 0
  for (const [index, span] of complianceSpans.entries()) {
    const staysBefore = span.position > index
    kept.push(bytes.subarray(from, staysBefore ? span.commaBefore : span.nameStart))
    const hasCommaBehind = span.position < members - 1
    from = staysBefore || !hasCommaBehind ? span.valueEnd : bytes.indexOf(COMMA, span.valueEnd) + 1
  }
  kept.push(bytes.subarray(from))
  return Buffer.concat(kept)
}

function assertCanonical(stampBytes: Buffer): void {
  let canonical: string
  try {
    canonical = canonicalize(parseStrict(stampBytes))
  } catch (cause) {
    throw new SignetError('STAMP_INVALID', 'the embedded `_compliance` is not strict JSON', { cause })
  }
  if (!stampBytes.equals(Buffer.from(canonical))) throw notOurs('is not in canonical form (RFC 8785)')
}

function notOurs(what: string): SignetError {
  return new SignetError(
    'STAMP_INVALID',
    `the top-level member \`_compliance\` ${what}; only what Signet embeds is a stamp`,
  )
}
