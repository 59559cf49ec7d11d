import type { Logger } from 'pino'
import type { KeptFile } from './kept-file.ts'
import type { Checkpoint } from './ledger-client.ts'

/** Two heads of one chain that cannot both be true: it was set back, or the same number has two hashes. */
type Inconsistency = {
  readonly kind: 'set-back' | 'forked'
  readonly before: Checkpoint
  readonly after: Checkpoint
}

/** What two heads, seen in this order, say about the ledger; null where nothing is wrong. Heads of other tenants are other chains. */
function compareCheckpoints(before: Checkpoint | null, after: Checkpoint): Inconsistency | null {
  if (before === null || before.tenant !== after.tenant) return null
  if (after.seq < before.seq) return { kind: 'set-back', before, after }
  if (after.seq === before.seq && after.hash !== before.hash) return { kind: 'forked', before, after }
  return null
}

export type WitnessOptions = {
  /** The head that the ledger signed last, in an earlier run too. */
  checkpoint: Checkpoint | null
  evidence: KeptFile
  logger: Logger
  onInconsistent: () => void
}

/**
 * Holds the ledger to what it signed before: every proxy is a witness. On a contradiction it raises the alarm, keeps both states
 * (with the signed acknowledgements, where it has them) and goes on from the new one, so that the next contradiction is noticed
 * too. Events are still sent: a ledger that was tampered with is where they are needed most, and stopping would hand whoever
 * tampered with it the power to stop every workload.
 */
export class Witness {
  readonly #options: WitnessOptions
  #checkpoint: Checkpoint | null
  /** The answer that it came with, as received: the first `#signedLength` bytes of a buffer that is used again. */
  #signed = Buffer.alloc(0)
  #signedLength = 0
  #consistent = true

  constructor(options: WitnessOptions) {
    this.#options = options
    this.#checkpoint = options.checkpoint
  }

  get checkpoint(): Checkpoint | null {
    return this.#checkpoint
  }

  /** False from the first contradiction on, for the rest of the run. */
  get consistent(): boolean {
    return this.#consistent
  }

  /** `signed`: the verified answer that carries the head, as received; null where it came unsigned, which only can raise the alarm. */
  async compare(next: Checkpoint, signed: Buffer | null): Promise<void> {
    const found = compareCheckpoints(this.#checkpoint, next)
    const evidence = found === null ? null : { before: this.#keptAnswer(), after: answerOf(signed) }
    if (signed !== null) {
      this.#checkpoint = next
      this.#keep(signed)
    }
    if (found !== null && evidence !== null) await this.#alarm(found, evidence)
  }

  /** A copy: each answer kept as it came would live long enough to be moved to the old generation, for a full collection to find. */
  #keep(signed: Buffer): void {
    if (signed.length > this.#signed.length) this.#signed = Buffer.alloc(signed.length * 2)
    signed.copy(this.#signed)
    this.#signedLength = signed.length
  }

  #keptAnswer(): unknown {
    return answerOf(this.#signedLength === 0 ? null : this.#signed.subarray(0, this.#signedLength))
  }

  async #alarm(found: Inconsistency, signed: { before: unknown; after: unknown }): Promise<void> {
    const { evidence, logger, onInconsistent } = this.#options
    this.#consistent = false
    onInconsistent()
    logger.fatal(
      {
        code: 'LEDGER_INCONSISTENT',
        kind: found.kind,
        before: found.before,
        after: found.after,
        evidence: evidence.path,
      },
      'the ledger contradicts what it signed before: its chain was set back or forked',
    )
    try {
      const kept = await evidence.append([{ ...found, signed_before: signed.before, signed_after: signed.after }])
      if (!kept)
        logger.error({ path: evidence.path }, 'the file of contradictions is full: this one is only in the log')
    } catch (error) {
      logger.error({ err: error }, 'the evidence of a contradiction could not be kept')
    }
  }
}

function answerOf(bytes: Buffer | null): unknown {
  return bytes === null ? null : JSON.parse(bytes.toString('utf8'))
}
