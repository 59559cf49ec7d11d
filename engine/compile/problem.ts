import { SignetError } from '#core/error/signet-error.ts'

/** One thing that is wrong with an author's source. `line` and `column` count from 1; columns are code points, as in OPA. */
export interface RuleProblem {
  file: string
  line: number
  column: number
  message: string
}

const MAX_PROBLEMS = 100

/** RULE_INVALID with the first problem in the message and all (at most 100) in `details.errors`. */
export function ruleInvalid(problems: readonly RuleProblem[]): SignetError {
  const errors = [...problems].sort(
    (a, b) =>
      compareText(a.file, b.file) || a.line - b.line || a.column - b.column || compareText(a.message, b.message),
  )
  const first = errors[0]!
  const more = errors.length > 1 ? ` (and ${errors.length - 1} more)` : ''
  return new SignetError('RULE_INVALID', `${first.file}:${first.line}:${first.column}: ${first.message}${more}`, {
    details: { errors: errors.slice(0, MAX_PROBLEMS) },
  })
}

/** Order by code unit: the same on every machine, whatever its locale. */
export function compareText(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0
}

/** The set of rules as a whole is too much: no single rule is to blame. */
export function tooLarge(maxBytes: number): SignetError {
  return new SignetError('RULE_INVALID', `the compiled module is larger than ${maxBytes >> 20} MiB`, {
    details: { errors: [] },
  })
}

/** The problems in a RULE_INVALID of one rule; where it names none, its message. */
export function problemsOf(error: SignetError, file: string): RuleProblem[] {
  const errors = error.details?.['errors']
  if (Array.isArray(errors) && errors.length > 0) return errors as RuleProblem[]
  return [{ file, line: 1, column: 1, message: error.message }]
}
