/** What a client says happened; who and in which tenant is the collector's to know. Serialised as it is, so that a retry has the same bytes. */
export type ClientEvent = {
  /** UUID, lowercase. */
  readonly event_id: string
  /** `client.` and what kind of event it is: `client.export.clicked`. */
  readonly event_type: string
  /** By the client's clock. */
  readonly timestamp_utc: string
  readonly trace_id: string
  readonly request_id: string
  readonly action: string
  readonly resource: string
  readonly outcome: 'success' | 'failure' | 'unknown'
  readonly latency_ms: number
  readonly context?: Readonly<Record<string, unknown>>
}

/** Of the body of a batch: what browsers take for a beacon at least (64 KiB), with room. */
export const MAX_CLIENT_BATCH_BYTES = 60_000
export const MAX_CLIENT_BATCH_EVENTS = 100
