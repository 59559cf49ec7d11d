import { SignetError } from '#core/error/signet-error.ts'

/** Why a coded answer is refused, as the metric `signet_coding_refusals` counts it. */
export const CODING_FAULTS = ['bomb', 'damaged', 'layers', 'partial', 'unknown'] as const

/** A Content-Encoding that cannot be removed, or not within the limits: what cannot be read cannot be stamped, so it does not leave. */
export class CodingFault extends SignetError {
  readonly reason: (typeof CODING_FAULTS)[number]

  constructor(reason: CodingFault['reason'], message: string, options: { cause?: unknown } = {}) {
    super(reason === 'bomb' ? 'DECOMPRESSION_LIMIT' : 'UPSTREAM_INVALID', message, options)
    this.reason = reason
  }
}
