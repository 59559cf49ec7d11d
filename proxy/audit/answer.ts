import { sha256Hex } from '#core/crypto/digest.ts'
import { SignetError } from '#core/error/signet-error.ts'
import type { OpenedAck } from './ack-reader.ts'
import type { LineBatch } from './line-batch.ts'

export type RefusedItem = { readonly index: number; readonly code: string; readonly detail: string }
/** By their index in the batch. */
export type Outcome = {
  readonly acked: readonly number[]
  readonly refused: readonly RefusedItem[]
  /** How many are neither acknowledged nor refused: to be sent again. */
  readonly unanswered: number
}

const OPEN = 0
const ACKED = 1
const REFUSED = 2

/**
 * Holds an answer, whose signature was verified, against the lines that were sent (ascending indexes of `batch`): each
 * acknowledgement must carry the digest of the bytes that we have under that number. Throws LEDGER_RESPONSE_INVALID: then nothing
 * of the answer counts.
 */
export function matchAnswer(answer: OpenedAck, batch: LineBatch, sent: readonly number[]): Outcome {
  const { checkpoint, tenant, refused: refusals } = answer.head
  if (checkpoint.tenant !== tenant) throw invalid('its checkpoint is of another tenant')
  const state = new Uint8Array(batch.count).fill(ACKED)
  for (const index of sent) state[index] = OPEN
  const acked: number[] = []
  answer.forEachAck((spoolSeq, seq, eventId, isDigest) => {
    const index = batch.indexOf(spoolSeq)
    if (index === -1) throw invalid(`it acknowledges spool_seq ${spoolSeq}, which was not sent`)
    const line = batch.line(index)
    if (!isDigest(sha256Hex(line)) || !line.includes(`"event_id":${eventId}`, 0, 'latin1'))
      throw invalid(`it acknowledges other bytes than were sent as spool_seq ${spoolSeq}`)
    if (seq > checkpoint.seq) throw invalid(`it places spool_seq ${spoolSeq} behind the head of the chain`)
    if (state[index] !== OPEN) throw invalid(`it answers spool_seq ${spoolSeq} twice`)
    state[index] = ACKED
    acked.push(index)
  })
  const refused: RefusedItem[] = []
  for (const { line, code, detail } of refusals) {
    const index = sent[line - 1]
    if (index === undefined) throw invalid(`it refuses line ${line} of ${sent.length}`)
    if (state[index] !== OPEN) throw invalid(`it answers line ${line} twice`)
    state[index] = REFUSED
    refused.push({ index, code: code.slice(0, 64), detail: detail.slice(0, 300) })
  }
  return { acked, refused, unanswered: sent.length - acked.length - refused.length }
}

function invalid(why: string): SignetError {
  return new SignetError('LEDGER_RESPONSE_INVALID', `The acknowledgement of the ledger does not fit the batch: ${why}`)
}
