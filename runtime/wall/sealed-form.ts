import { OUTCOMES, STAGES } from '#core/audit/event.ts'
import { endOfCanonical } from '#core/canonical/form.ts'
import type { CopyTable } from './copy.ts'
import { RECORD } from './columns.ts'

const NO = -1
const QUOTE = 0x22
const MINUS = 0x2d
const COLON = 0x3a
const BACKSLASH = 0x5c
const OPEN_OBJECT = 0x7b
const ZERO = 0x30
const SPACE = 0x20
/** Digits that every integer of is a safe one. */
const MAX_DIGITS = 15
const EPOCH_2000_US = 946_684_800_000_000
const DAY_MS = 86_400_000
const DAYS_TO_2000 = 10_957
const DATE_LENGTH = 10
const TIME_LENGTH = 24
const HEX = Buffer.from('0123456789abcdef')

const piece = (text: string): Uint8Array => Buffer.from(text)
// What stands between the values of a sealed record, in the order of its names.
const EVENT_ACTION = piece('{"event":{"action":')
const ACTOR = piece(',"actor":')
const AFTER = piece(',"after":')
const BEFORE = piece(',"before":')
const CONTEXT = piece(',"context":')
const DATA_DOMAIN = piece(',"data_domain":')
const EVENT_ID = piece(',"event_id":')
const EVENT_TYPE = piece(',"event_type":')
const LATENCY_MS = piece(',"latency_ms":')
const OUTCOME = piece(',"outcome":')
const REGION = piece(',"region":')
const REQUEST_ID = piece(',"request_id":')
const RESOURCE = piece(',"resource":')
const RESOURCE_ID = piece(',"resource_id":')
const RESOURCE_TYPE = piece(',"resource_type":')
const SOURCE = piece(',"source":')
const STAGE = piece(',"stage":')
const STAMP_HASH = piece(',"stamp_hash":')
const TENANT = piece(',"tenant":')
const TIMESTAMP_UTC = piece(',"timestamp_utc":')
const TRACE_ID = piece(',"trace_id":')
const PRODUCER_ID = piece('},"producer_id":')
const RECEIVED_AT = piece(',"received_at":')
const SESSION = piece(',"session":')
const SPOOL_SEQ = piece(',"spool_seq":')
const VERSION = piece(',"v":1}')
const NULL = piece('null')
const DIGEST = piece('sha256:')
const STAGE_NAMES = STAGES.map(piece)
const OUTCOME_NAMES = OUTCOMES.map(piece)

/** What `isSealedForm` found of a record besides. */
export type SealedForm = {
  /** Days from 2000 to the first of the month of `received_at`. */
  month: number
  /** Microseconds since 2000. */
  receivedAt: number
  /** Whether a stamp came with the event; it is the one that the column names. */
  hasStamp: boolean
}

/**
 * Compares the sealed bytes of records with the columns beside them, byte by byte where both lie: no text, no JSON, no object is made of
 * them. It vouches for records in the form in which the ledger writes nearly all of them; what it does not vouch for is not wrong, it is
 * for `openCommitted` and `checkStored` to judge. Whatever it vouches for, those find sound too.
 */
export class SealedFormCheck {
  readonly #tenant: Uint8Array
  readonly found: SealedForm = { month: 0, receivedAt: 0, hasStamp: false }
  #table: CopyTable | null = null
  #bytes: Buffer = Buffer.alloc(0)
  #places: Int32Array = new Int32Array(0)
  #row = 0
  #end = 0
  /** The day that was read last, as it is written, and when it and its month begin. */
  readonly #day = Buffer.alloc(DATE_LENGTH)
  #dayUs = NaN
  #month = NaN

  constructor(tenant: string) {
    this.#tenant = Buffer.from(tenant)
  }

  /** Whether the bytes `from` to before `to` of a row are a sealed record whose columns say what it says. Then `found` is of it. */
  vouches(table: CopyTable, row: number, from: number, to: number): boolean {
    if (table !== this.#table) {
      this.#table = table
      this.#bytes = table.bytes
      this.#places = table.places
    }
    this.#row = row * table.columns * 2
    this.#end = to
    return this.#record(from) === to
  }

  #record(from: number): number {
    let at = this.#column(this.#literal(from, EVENT_ACTION), RECORD.action, 512)
    at = this.#column(this.#literal(at, ACTOR), RECORD.actor, 512)
    at = this.#value(this.#literal(at, AFTER))
    at = this.#value(this.#literal(at, BEFORE))
    if (this.#isNext(at, CONTEXT)) at = this.#object(at + CONTEXT.length)
    at = this.#optional(at, DATA_DOMAIN, RECORD.data_domain, 512)
    at = this.#uuid(this.#literal(at, EVENT_ID), RECORD.event_id)
    at = this.#column(this.#literal(at, EVENT_TYPE), RECORD.event_type, 512)
    at = this.#positive(this.#literal(at, LATENCY_MS))
    at = this.#oneOf(this.#literal(at, OUTCOME), RECORD.outcome, OUTCOME_NAMES)
    at = this.#optional(at, REGION, RECORD.region, 512)
    at = this.#column(this.#literal(at, REQUEST_ID), RECORD.request_id, 512)
    at = this.#column(this.#literal(at, RESOURCE), RECORD.resource, 4_096)
    at = this.#optional(at, RESOURCE_ID, RECORD.resource_id, 2_048)
    at = this.#optional(at, RESOURCE_TYPE, RECORD.resource_type, 512)
    if (this.#isNext(at, SOURCE)) at = this.#column(at + SOURCE.length, RECORD.producer_id, 512)
    at = this.#oneOf(this.#literal(at, STAGE), RECORD.stage, STAGE_NAMES)
    at = this.#digestColumn(this.#literal(at, STAMP_HASH), RECORD.stamp_hash)
    at = this.#tenantName(this.#literal(at, TENANT))
    at = this.#literal(at, TIMESTAMP_UTC)
    if (at === NO || this.#timeAt(at) !== this.#int64(RECORD.timestamp)) return NO
    at = this.#column(this.#literal(at + 2 + TIME_LENGTH, TRACE_ID), RECORD.trace_id, 32)
    at = this.#column(this.#literal(at, PRODUCER_ID), RECORD.producer_id, 512)
    at = this.#literal(at, RECEIVED_AT)
    if (at === NO) return NO
    const receivedAt = this.#timeAt(at)
    if (receivedAt !== this.#int64(RECORD.received_at) || this.#month !== this.#int32(RECORD.month)) return NO
    this.found.receivedAt = receivedAt
    this.found.month = this.#month
    at = this.#nullable(this.#literal(at + 2 + TIME_LENGTH, SESSION), RECORD.session, 'uuid')
    at = this.#nullable(this.#literal(at, SPOOL_SEQ), RECORD.spool_seq, 'integer')
    at = this.#literal(at, STAMP_HASH)
    this.found.hasStamp = at !== NO && !this.#isNext(at, NULL)
    at = this.found.hasStamp ? this.#digestColumn(at, RECORD.stamp_hash) : this.#literal(at, NULL)
    return this.#literal(at, VERSION)
  }

  #begin(column: number): number {
    return this.#places[this.#row + column * 2] as number
  }

  #isNext(at: number, wanted: Uint8Array): boolean {
    return at !== NO && this.#literal(at, wanted) !== NO
  }

  #literal(at: number, wanted: Uint8Array): number {
    const bytes = this.#bytes
    if (at === NO || at + wanted.length > this.#end) return NO
    for (let index = 0; index < wanted.length; index++) if (bytes[at + index] !== wanted[index]) return NO
    return at + wanted.length
  }

  /** A string that is what a column says, and has no escape. `max`: characters, of which there are no more than bytes. */
  #column(at: number, column: number, max: number): number {
    const begin = this.#begin(column)
    const length = (this.#places[this.#row + column * 2 + 1] as number) - begin
    if (at === NO || begin === NO || length < 1 || length > max || at + length + 2 > this.#end) return NO
    const bytes = this.#bytes
    if (bytes[at] !== QUOTE || bytes[at + length + 1] !== QUOTE) return NO
    for (let index = 0; index < length; index++) {
      const byte = bytes[begin + index] as number
      if (byte !== bytes[at + 1 + index] || byte < SPACE || byte === QUOTE || byte === BACKSLASH) return NO
    }
    return at + length + 2
  }

  #optional(at: number, name: Uint8Array, column: number, max: number): number {
    if (this.#isNext(at, name)) return this.#column(at + name.length, column, max)
    return this.#begin(column) === NO ? at : NO
  }

  #nullable(at: number, column: number, kind: 'uuid' | 'integer'): number {
    if (at === NO) return NO
    if (this.#begin(column) === NO) return this.#literal(at, NULL)
    return kind === 'uuid' ? this.#uuid(at, column) : this.#integer(at, column)
  }

  #digestColumn(at: number, column: number): number {
    const begin = this.#begin(column)
    if (at === NO) return NO
    if (begin === NO) return this.#literal(at, NULL)
    const end = this.#column(at, column, 71)
    if (end !== at + 73 || this.#literal(at + 1, DIGEST) === NO) return NO
    for (let index = at + 8; index < end - 1; index++) if (!isHexDigit(this.#bytes[index] as number)) return NO
    return end
  }

  #oneOf(at: number, column: number, names: readonly Uint8Array[]): number {
    const end = this.#column(at, column, 512)
    if (end === NO) return NO
    for (const name of names) if (end === at + name.length + 2 && this.#literal(at + 1, name) !== NO) return end
    return NO
  }

  #tenantName(at: number): number {
    if (at === NO || this.#bytes[at] !== QUOTE) return NO
    const end = this.#literal(at + 1, this.#tenant)
    return end !== NO && endOfCanonical(this.#bytes, at, this.#end) === end + 1 ? end + 1 : NO
  }

  #value(at: number): number {
    return at === NO ? NO : endOfCanonical(this.#bytes, at, this.#end)
  }

  #object(at: number): number {
    return this.#bytes[at] === OPEN_OBJECT ? this.#value(at) : NO
  }

  /** A number, 0 or more. */
  #positive(at: number): number {
    const first = this.#bytes[at] as number
    return at === NO || first === MINUS || first < ZERO || first >= COLON ? NO : this.#value(at)
  }

  #uuid(at: number, column: number): number {
    const bytes = this.#bytes
    const begin = this.#begin(column)
    if (at === NO || begin === NO || at + 38 > this.#end || bytes[at] !== QUOTE || bytes[at + 37] !== QUOTE) return NO
    let digit = 0
    for (let index = 0; index < 36; index++) {
      const byte = bytes[at + 1 + index] as number
      if (HYPHENS_AT[index] === 1) {
        if (byte !== MINUS) return NO
        continue
      }
      const both = bytes[begin + (digit >> 1)] as number
      if (byte !== HEX[digit % 2 === 0 ? both >> 4 : both & 15]) return NO
      digit++
    }
    return at + 38
  }

  #integer(at: number, column: number): number {
    const bytes = this.#bytes
    let value = 0
    let place = at
    for (; place < this.#end && isDigit(bytes[place] as number); place++)
      value = value * 10 + (bytes[place] as number) - ZERO
    const isCanonical = place > at && place - at <= MAX_DIGITS && (bytes[at] !== ZERO || place === at + 1)
    return isCanonical && value === this.#int64(column) ? place : NO
  }

  /** Microseconds from 2000 to a `TimestampUtc` between quotes; NaN where there is none. */
  #timeAt(at: number): number {
    const bytes = this.#bytes
    if (at + TIME_LENGTH + 2 > this.#end || bytes[at] !== QUOTE || bytes[at + TIME_LENGTH + 1] !== QUOTE) return NaN
    const start = at + 1
    for (let index = 0; index < DATE_LENGTH; index++) {
      if (bytes[start + index] === this.#day[index]) continue
      this.#readDay(start)
      break
    }
    const hour = this.#twoDigits(start + 11)
    const minute = this.#twoDigits(start + 14)
    const second = this.#twoDigits(start + 17)
    const hundredths = this.#twoDigits(start + 20)
    const last = (bytes[start + 22] as number) - ZERO
    const isForm =
      bytes[start + 10] === 0x54 &&
      bytes[start + 13] === COLON &&
      bytes[start + 16] === COLON &&
      bytes[start + 19] === 0x2e &&
      bytes[start + 23] === 0x5a
    if (!isForm || !(hour < 24 && minute < 60 && second < 60 && hundredths < 100 && last >= 0 && last < 10)) return NaN
    return this.#dayUs + (((hour * 60 + minute) * 60 + second) * 1_000 + hundredths * 10 + last) * 1_000
  }

  #readDay(start: number): void {
    const text = this.#bytes.toString('latin1', start, start + DATE_LENGTH)
    this.#day.write(text, 'latin1')
    const isDate = /^\d{4}-\d\d-\d\d$/.test(text)
    this.#dayUs = isDate ? Date.parse(`${text}T00:00:00.000Z`) * 1_000 - EPOCH_2000_US : NaN
    this.#month = Date.parse(`${text.slice(0, 7)}-01T00:00:00.000Z`) / DAY_MS - DAYS_TO_2000
  }

  /** NaN where they are none. */
  #twoDigits(at: number): number {
    const first = this.#bytes[at] as number
    const second = this.#bytes[at + 1] as number
    return isDigit(first) && isDigit(second) ? (first - ZERO) * 10 + second - ZERO : NaN
  }

  /** NaN for NULL. */
  #int64(column: number): number {
    const at = this.#begin(column)
    return at === NO ? NaN : this.#bytes.readInt32BE(at) * 2 ** 32 + this.#bytes.readUInt32BE(at + 4)
  }

  #int32(column: number): number {
    const at = this.#begin(column)
    return at === NO ? NaN : this.#bytes.readInt32BE(at)
  }
}

const HYPHENS_AT = Uint8Array.from({ length: 36 }, (_, index) => ([8, 13, 18, 23].includes(index) ? 1 : 0))

function isDigit(byte: number): boolean {
  return byte >= ZERO && byte <= 0x39
}

function isHexDigit(byte: number): boolean {
  return isDigit(byte) || (byte >= 0x61 && byte <= 0x66)
}
