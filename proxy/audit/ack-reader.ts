import Type from 'typebox'
import { Compile } from 'typebox/compile'
import { verifyAck, verifyAckBytes } from '#core/audit/acknowledgement.ts'
import { IngestAck } from '#core/audit/wire.ts'
import { canonicalize } from '#core/canonical/jcs.ts'
import { SignetError } from '#core/error/signet-error.ts'
import type { KeyIndex } from '#core/keyring/keyring.ts'

/**
 * One acknowledgement: the numbers of the line in its spool and in the chain, the event id as a JSON string (quotes included), and
 * whether a SHA-256 (64 hex digits) is the digest of the line received.
 */
export type AckVisitor = (spoolSeq: number, seq: number, eventId: string, isDigest: (hex: string) => boolean) => void

/** An answer to a batch whose signature was verified. */
export type OpenedAck = {
  readonly head: Omit<IngestAck, 'acks'>
  forEachAck(visit: AckVisitor): void
}

const headValidator = Compile(Type.Omit(IngestAck, ['acks']))
const validator = Compile(IngestAck)

/**
 * Reads an answer as received and verifies its signature. One in canonical form, as the ledger writes it, is read in place: an object
 * for each acknowledgement would cost more than all else that is done for an event here.
 * @throws SignetError LEDGER_RESPONSE_INVALID
 */
export function openAck(bytes: Buffer, keyring: Pick<KeyIndex, 'ackKey'>): OpenedAck {
  return openCanonical(bytes, keyring) ?? openParsed(bytes, keyring)
}

const BEFORE_ACKS = '{"acks":['
const BEHIND_ACKS = '],"checkpoint":'

/** Null where it is of another form, or does not verify as it stands. */
function openCanonical(bytes: Buffer, keyring: Pick<KeyIndex, 'ackKey'>): OpenedAck | null {
  const text = bytes.toString('latin1')
  // Quotes within a string are escaped, so that this is no part of one.
  const end = text.indexOf(BEHIND_ACKS)
  if (!text.startsWith(BEFORE_ACKS) || end === -1) return null
  const acks = text.slice(BEFORE_ACKS.length, end)
  if (!areCanonical(acks)) return null
  const head = parsed(`{${bytes.toString('utf8', end + 2)}`)
  if (!headValidator.Check(head)) return null
  const key = keyring.ackKey(head.key_id)
  if (key === undefined || !verifyAckBytes(bytes, head, key)) return null
  return { head, forEachAck: (visit) => visitAcks(acks, visit) }
}

function openParsed(bytes: Buffer, keyring: Pick<KeyIndex, 'ackKey'>): OpenedAck {
  const ack = parsed(bytes.toString('utf8'))
  if (!validator.Check(ack)) {
    const fault = ack === undefined ? undefined : validator.Errors(ack)[0]
    throw invalid(`is not valid: ${fault?.instancePath || '/'} ${fault?.message ?? 'is not JSON'}`)
  }
  const key = keyring.ackKey(ack.key_id)
  if (key === undefined)
    throw invalid(`is signed with the key «${ack.key_id.slice(0, 80)}», which is not in the keyring`)
  verifyAck(ack, key)
  return {
    head: ack,
    forEachAck(visit) {
      for (const { spool_seq, seq, event_id, received_digest } of ack.acks)
        visit(spool_seq, seq, canonicalize(event_id), (hex) => received_digest === `sha256:${hex}`)
    },
  }
}

/** An acknowledgement with its members in canonical order, and nothing that would have to be unescaped. */
const ACK =
  /\{"commitment":"[0-9a-f]{64}","event_id":"[0-9a-f-]{36}","received_digest":"sha256:[0-9a-f]{64}","seq":[1-9][0-9]{0,14},"spool_seq":[1-9][0-9]{0,14}\}/y

/** Whether a text is a list of such. */
function areCanonical(acks: string): boolean {
  for (let at = 0; at < acks.length; at = ACK.lastIndex + 1) {
    ACK.lastIndex = at
    if (!ACK.test(acks)) return false
    if (ACK.lastIndex < acks.length && acks[ACK.lastIndex] !== ',') return false
  }
  return true
}

const EVENT_ID_AT = '{"commitment":"","event_id":'.length + 64
const EVENT_ID_LENGTH = 38
const DIGEST_AT = EVENT_ID_AT + EVENT_ID_LENGTH + ',"received_digest":"sha256:'.length
const SEQ_AT = DIGEST_AT + 64 + '","seq":'.length
const SPOOL_SEQ = ',"spool_seq":'.length

/** What is where follows from the lengths. */
function visitAcks(acks: string, visit: AckVisitor): void {
  let start = 0
  const isDigest = (hex: string): boolean => hex.length === 64 && acks.startsWith(hex, start + DIGEST_AT)
  while (start < acks.length) {
    const comma = acks.indexOf(',', start + SEQ_AT)
    const close = acks.indexOf('}', comma)
    visit(
      Number(acks.slice(comma + SPOOL_SEQ, close)),
      Number(acks.slice(start + SEQ_AT, comma)),
      acks.slice(start + EVENT_ID_AT, start + EVENT_ID_AT + EVENT_ID_LENGTH),
      isDigest,
    )
    start = close + 2
  }
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}

function invalid(what: string): SignetError {
  return new SignetError('LEDGER_RESPONSE_INVALID', `The acknowledgement of the ledger ${what}`)
}
