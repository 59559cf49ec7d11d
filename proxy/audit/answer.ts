import type { IngestAck } from '#core/audit/wire.ts'
import { digestText } from '#core/crypto/digest.ts'
import { SignetError } from '#core/error/signet-error.ts'
import type { SpoolItem } from './spool-reader.ts'

export type RefusedItem = { readonly item: SpoolItem; readonly code: string; readonly detail: string }
export type Outcome = {
  readonly acked: readonly SpoolItem[]
  readonly refused: readonly RefusedItem[]
  /** Neither acknowledged nor refused: to be sent again. */
  readonly unanswered: readonly SpoolItem[]
}

/**
 * Holds an answer, whose signature was verified, against the batch that was sent: each acknowledgement must carry the digest of
 * the bytes that we have under that number. Throws LEDGER_RESPONSE_INVALID: then nothing of the answer counts.
 */
export function matchAnswer(answer: IngestAck, items: readonly SpoolItem[]): Outcome {
  const bySeq = new Map(items.map((item) => [item.seq, item]))
  const open = new Set(items)
  const acked: SpoolItem[] = []
  const refused: RefusedItem[] = []
  if (answer.checkpoint.tenant !== answer.tenant) throw invalid('its checkpoint is of another tenant')
  for (const ack of answer.acks) {
    const item = bySeq.get(ack.spool_seq)
    if (item === undefined) throw invalid(`it acknowledges spool_seq ${ack.spool_seq}, which was not sent`)
    if (ack.received_digest !== digestText(item.line) || !item.line.includes(`"event_id":"${ack.event_id}"`)) {
      throw invalid(`it acknowledges other bytes than were sent as spool_seq ${ack.spool_seq}`)
    }
    if (ack.seq > answer.checkpoint.seq)
      throw invalid(`it places spool_seq ${ack.spool_seq} behind the head of the chain`)
    if (!open.delete(item)) throw invalid(`it answers spool_seq ${ack.spool_seq} twice`)
    acked.push(item)
  }
  for (const { line, code, detail } of answer.refused) {
    const item = items[line - 1]
    if (item === undefined) throw invalid(`it refuses line ${line} of ${items.length}`)
    if (!open.delete(item)) throw invalid(`it answers line ${line} twice`)
    refused.push({ item, code: code.slice(0, 64), detail: detail.slice(0, 300) })
  }
  return { acked, refused, unanswered: items.filter((item) => open.has(item)) }
}

function invalid(why: string): SignetError {
  return new SignetError('LEDGER_RESPONSE_INVALID', `The acknowledgement of the ledger does not fit the batch: ${why}`)
}
