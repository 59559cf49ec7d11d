import { ERROR_CODES, type ErrorCode } from '#core/error/codes.ts'
import { SignetError } from '#core/error/signet-error.ts'
import type { BatchOutcome } from './entry.ts'

/** For a batch of one entry. @throws SignetError of the refusal's code, where it was refused */
export function throwRefusal(outcome: BatchOutcome): void {
  const [refusal] = outcome.refused
  if (refusal === undefined) return
  throw new SignetError(isCode(refusal.code) ? refusal.code : 'INTERNAL', refusal.detail)
}

function isCode(code: string): code is ErrorCode {
  return Object.hasOwn(ERROR_CODES, code)
}
