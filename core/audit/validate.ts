import { Compile } from 'typebox/compile'
import { firstFault } from '../error/schema-fault.ts'
import { SignetError } from '../error/signet-error.ts'
import { AuditEvent } from './event.ts'

const validator = Compile(AuditEvent)

/**
 * The value as an audit event; nothing is converted, defaulted or removed.
 * @throws SignetError AUDIT_EVENT_INVALID with the path of the first fault and what is allowed there, never the value
 */
export function checkAuditEvent(value: unknown): AuditEvent {
  if (validator.Check(value)) return value
  const { path, allowed } = firstFault(validator.Errors(value))
  throw new SignetError('AUDIT_EVENT_INVALID', `the audit event at ${path}: ${allowed}`, { details: { path, allowed } })
}
