import { SignetError } from '#core/error/signet-error.ts'
import type { FoundStamps } from '#core/stamp/content.ts'
import type { StampSubject } from '#core/stamp/schema.ts'

/** What is verified: content and its stamps, where they were (for the report), and what is known of the answer. */
export type Evidence = FoundStamps & { readonly place: string; readonly expected: Partial<StampSubject> }

/** Nothing was found here, so that it is worth looking elsewhere; a stamp of a wrong form is found, and wrong. */
export function isMissing(error: unknown): error is SignetError {
  return error instanceof SignetError && (error.code === 'STAMP_MISSING' || error.code === 'JSON_INVALID')
}
