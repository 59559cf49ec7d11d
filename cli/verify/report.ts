import { styleText } from 'node:util'
import type { ErrorCode } from '#core/error/codes.ts'
import type { SignetError } from '#core/error/signet-error.ts'
import type { Stamp } from '#core/stamp/schema.ts'
import type { VerifiedStamp } from '#core/stamp/verify.ts'
import { EXIT } from '../usage.ts'

/** The outcome of one verification, as `--json` prints it. */
export type Report = {
  readonly result: 'verified' | 'subject-unchecked' | 'invalid'
  readonly source: string
  /** Which check failed. */
  readonly check?: Check
  readonly code?: ErrorCode
  readonly detail?: string
  readonly evidence?: Readonly<Record<string, unknown>>
  /** Members of the subject that nobody said what to expect of. */
  readonly unchecked?: readonly string[]
  readonly place?: string
  readonly stamp_hash?: string
  readonly stamp?: Stamp
}

type Check = 'presence' | 'form' | 'key' | 'mac' | 'payload' | 'subject'

const CHECK_OF: Partial<Record<ErrorCode, Check>> = {
  STAMP_MISSING: 'presence',
  STAMP_INVALID: 'form',
  JSON_INVALID: 'form',
  STAMP_KEY_UNKNOWN: 'key',
  STAMP_KEY_INVALID: 'key',
  STAMP_MAC_MISMATCH: 'mac',
  STAMP_PAYLOAD_MISMATCH: 'payload',
  STAMP_SUBJECT_MISMATCH: 'subject',
}
const MEANING: Record<Check, string> = {
  presence: 'there is no stamp',
  form: 'the stamp does not have the form of one',
  key: 'the key may not have made this stamp',
  mac: 'the stamp was changed after it was made, or was not made with this key',
  payload: 'the content was changed after it was stamped',
  subject: 'the stamp belongs to another response',
}
const FLAG_OF: Record<string, string> = {
  target_digest: '--target',
  method: '--method',
  status: '--status',
  tenant: '--tenant',
  channel: '--channel',
}

export function verifiedReport(source: string, place: string, verified: VerifiedStamp): Report {
  return {
    result: verified.subjectChecked ? 'verified' : 'subject-unchecked',
    source,
    place,
    unchecked: verified.unchecked,
    stamp_hash: verified.hash,
    stamp: verified.stamp,
  }
}

/** Null for an error that is no finding about the stamp. */
export function invalidReport(source: string, error: SignetError): Report | null {
  const check = CHECK_OF[error.code]
  if (check === undefined) return null
  const evidence = error.details === undefined ? {} : { evidence: error.details }
  return { result: 'invalid', source, check, code: error.code, detail: error.message, ...evidence }
}

export function exitCodeOf(report: Report): number {
  if (report.result === 'verified') return EXIT.verified
  return report.result === 'invalid' ? EXIT.invalid : EXIT.unchecked
}

/** Plain words, a few lines; colours only where the stream is a terminal that wants them. */
export function formatReport(report: Report, stream: NodeJS.WriteStream): string {
  const paint = (style: 'green' | 'red' | 'yellow', text: string): string => styleText(style, text, { stream })
  if (report.result === 'invalid') {
    return [
      `${paint('red', 'INVALID')}  ${report.source}`,
      `  ${report.check}: ${MEANING[report.check ?? 'form']}`,
      `  ${report.detail ?? ''}`,
      '',
    ].join('\n')
  }
  const head =
    report.result === 'verified'
      ? paint('green', 'verified')
      : `${paint('yellow', 'intact')}, subject not fully checked`
  const lines = [`${head}  ${report.source}`]
  if (report.stamp !== undefined) lines.push(...describeStamp(report.stamp, report))
  const unchecked = report.unchecked ?? []
  if (unchecked.length > 0) {
    lines.push(
      `  not checked  ${unchecked.map((name) => name.replace('_digest', '')).join(', ')}: the stamp could have been moved here from another`,
      `               answer; say what you expect with ${unchecked.map((name) => FLAG_OF[name] ?? name).join(' ')}`,
    )
  }
  return `${lines.join('\n')}\n`
}

function describeStamp(stamp: Stamp, report: Report): string[] {
  const { subject, integrity, data_lineage: lineage } = stamp
  return [
    `  content      ${integrity.payload_length} bytes, unchanged (${integrity.payload_digest.slice(0, 19)}…)`,
    `  says         ${stamp.data_classification}; ${stamp.regulatory_compliance.join(', ')}; ${stamp.approval_status}`,
    `  made by      ${lineage.producer_id}, tenant ${subject.tenant}, ${stamp.timestamp_utc}, key ${integrity.key_id}`,
    `  answers      ${subject.method}, status ${subject.status}, ${subject.media_type || 'no media type'}, ${subject.channel} channel`,
    `  trace        ${lineage.trace_id}`,
    `  stamp        ${report.stamp_hash ?? ''} (${report.place ?? ''})`,
  ]
}
