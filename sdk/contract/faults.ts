import { SignetError } from '#core/error/signet-error.ts'

/** What a contract found wrong: where, and what. */
export type ContractFault = { readonly where: string; readonly code: string; readonly detail: string }

/** Fails a test with all faults at once. */
export class ContractError extends Error {
  readonly faults: readonly ContractFault[]

  constructor(faults: readonly ContractFault[]) {
    super(
      `${faults.length} not stamped as they should be:\n${faults.map(({ where, code, detail }) => `  ${where}: ${code}, ${detail}`).join('\n')}`,
    )
    this.name = 'ContractError'
    this.faults = faults
  }
}

export function faultOf(where: string, error: unknown): ContractFault {
  if (error instanceof SignetError) return { where, code: error.code, detail: error.message }
  return { where, code: 'FAILED', detail: error instanceof Error ? error.message : String(error) }
}
