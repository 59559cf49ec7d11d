import Type from 'typebox'
import { Compile } from 'typebox/compile'
import { SignetError } from '#core/error/signet-error.ts'

/**
 * What OPA's status API sends (https://www.openpolicyagent.org/docs/management-status), as far as it is read here: other members are let be.
 * OPA and the proxy send the same.
 */
const Text = Type.String({ maxLength: 4_096 })
export const StatusReport = Type.Object({
  labels: Type.Optional(Type.Record(Type.String(), Type.Unknown())),
  bundles: Type.Optional(
    Type.Record(
      Type.String(),
      Type.Object({
        active_revision: Type.Optional(Text),
        code: Type.Optional(Text),
        message: Type.Optional(Type.String()),
        errors: Type.Optional(Type.Union([Type.Null(), Type.Array(Type.Unknown())])),
      }),
      { maxProperties: 16 },
    ),
  ),
})
export type StatusReport = Type.Static<typeof StatusReport>

const checker = Compile(StatusReport)
const REVISION = /^\d{1,16}-[0-9a-f]{16}$/
const CODE = /^[A-Za-z0-9_.-]{1,64}$/

/** What one proxy says of the bundle that it has in force. */
export type ProxyStatus = {
  readonly namespace: string
  readonly pod: string
  readonly uid: string
  /** Null where none is in force, or none of ours. */
  readonly revision: string | null
  /** Why the latest bundle is not in force: a code of ours, or OPA's; null where it is. */
  readonly code: string | null
  readonly message: string | null
  readonly reportedMs: number
}

const MAX_MESSAGE_CHARS = 300

/**
 * The status of the one bundle that a report is about. Who reports is what its token says, whatever the labels say.
 * @throws SignetError REQUEST_INVALID
 */
export function readStatusReport(
  body: unknown,
  who: { namespace: string; pod: string; uid: string },
  nowMs: number,
): ProxyStatus {
  if (!checker.Check(body)) {
    const error = checker.Errors(body)[0]
    const where = error?.instancePath || '/'
    throw new SignetError(
      'REQUEST_INVALID',
      `not a status report: ${where.slice(0, 200)} ${error?.message ?? 'is wrong'}`,
    )
  }
  // One process has one bundle of ours; of several the first that failed is worth telling.
  const bundles = Object.values(body.bundles ?? {})
  const bundle = bundles.find((found) => found.code !== undefined && found.code !== '') ?? bundles[0]
  const revision = bundle?.active_revision ?? ''
  const code = bundle?.code ?? ''
  return {
    ...who,
    revision: REVISION.test(revision) ? revision : null,
    code: code === '' ? null : CODE.test(code) ? code : 'unknown',
    message: code === '' ? null : plain(bundle?.message ?? ''),
    reportedMs: nowMs,
  }
}

/** It gets into conditions that people read: one line, no control characters, short. */
function plain(message: string): string {
  return message
    .toWellFormed()
    .replace(/[\p{Cc}\p{Cf}\u2028\u2029]+/gu, ' ')
    .slice(0, MAX_MESSAGE_CHARS)
}
