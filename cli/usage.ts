/** How a command ends, for scripts. */
export const EXIT = { verified: 0, invalid: 1, usage: 2, unchecked: 3 } as const

/** A command line, or a file or URL that it names, that cannot be used: one line on standard error, exit 2. */
export class UsageError extends Error {
  readonly hint: string | undefined

  constructor(message: string, hint?: string) {
    super(message)
    this.name = 'UsageError'
    this.hint = hint
  }
}
