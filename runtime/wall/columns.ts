// In the order in which they are read: a column's place among them is its place in a row.
const LINK_COLUMNS = [
  'seq',
  'event_id',
  'commitment',
  'hash',
  'previous_hash',
  'previous_trace_hash',
  'key_id',
  'trace_hmac',
  'retention_class',
  'month',
  'appended_at',
] as const
const RECORD_COLUMNS = [
  'seq',
  'nonce_length',
  'nonce_and_bytes',
  'retention_class',
  'timestamp',
  'received_at',
  'month',
  'event_id',
  'event_type',
  'actor',
  'action',
  'resource',
  'resource_type',
  'resource_id',
  'stage',
  'outcome',
  'trace_id',
  'request_id',
  'session',
  'spool_seq',
  'producer_id',
  'region',
  'data_domain',
  'stamp_hash',
] as const

/** What is not a column of its own. Nonce and bytes come as one piece: that is how they are hashed. */
const EXPRESSIONS: Partial<Record<string, string>> = {
  nonce_length: 'octet_length(nonce)',
  nonce_and_bytes: 'nonce || bytes',
  timestamp: '"timestamp"',
}

/** The place of each column in a row of links, and of records. */
export const LINK = placesOf(LINK_COLUMNS)
export const RECORD = placesOf(RECORD_COLUMNS)
export const LINK_WIDTH = LINK_COLUMNS.length
export const RECORD_WIDTH = RECORD_COLUMNS.length
/** What a SELECT lists for such rows. */
export const LINK_LIST = listOf(LINK_COLUMNS)
export const RECORD_LIST = listOf(RECORD_COLUMNS)

function placesOf<N extends string>(names: readonly N[]): Readonly<Record<N, number>> {
  return Object.fromEntries(names.map((name, place) => [name, place])) as Record<N, number>
}

function listOf(names: readonly string[]): string {
  return names.map((name) => EXPRESSIONS[name] ?? name).join(', ')
}
