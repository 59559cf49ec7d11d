import { ERROR_CODES, type ErrorCode } from './codes.ts'

/**
 * The one error base. `code` is from the closed table in `codes.ts`; `message` says in plain words what was
 * wrong, where, and what is allowed; `details` carries machine-readable evidence (an integrity error carries
 * both states). Never put a secret or a refused payload byte in any of them.
 */
export class SignetError extends Error {
  readonly code: ErrorCode
  readonly details: Readonly<Record<string, unknown>> | undefined

  constructor(code: ErrorCode, message: string, options: { cause?: unknown; details?: Record<string, unknown> } = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause })
    this.name = 'SignetError'
    this.code = code
    this.details = options.details
  }

  get status(): number {
    return ERROR_CODES[this.code].status
  }

  get title(): string {
    return ERROR_CODES[this.code].title
  }
}
