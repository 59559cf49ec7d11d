import { FLAG_SAMPLED, formatTraceParent, parseTraceParent, type TraceParent } from '#core/trace/traceparent.ts'

/**
 * What ties the steps of one piece of work together, across HTTP, Kafka and jobs: the W3C trace context (`parentId` is the current span) and
 * the request id that the stamp of an answer has. Runs in browsers too.
 */
export type TraceContext = TraceParent & { readonly requestId: string }

/** The names that a proxy of Signet gives a service, in HTTP headers and in those of Kafka messages. */
const TRACE_HEADER = 'traceparent'
const REQUEST_HEADER = 'x-request-id'
/** The member of a job's payload. */
const JOB_MEMBER = 'signet_trace'
/** Visible, and no more than a stamp takes. */
const REQUEST_ID = /^[\x21-\x7e]{1,512}$/

/** A message's headers: kafkajs and the like have an object, others a map; values are texts or bytes. */
export type MessageHeaders = Readonly<Record<string, unknown>> | ReadonlyMap<unknown, unknown>

/** A trace of its own. */
export function newTrace(): TraceContext {
  return { traceId: randomHex(16), parentId: randomHex(8), flags: FLAG_SAMPLED, requestId: crypto.randomUUID() }
}

/** A span of its own in the same trace, for what is done next. */
export function childOf(trace: TraceContext): TraceContext {
  return { ...trace, parentId: randomHex(8) }
}

/** Headers that hand the trace on: of an HTTP request, or of a Kafka message. */
export function traceHeaders(trace: TraceContext): Record<string, string> {
  return { [TRACE_HEADER]: formatTraceParent(trace), [REQUEST_HEADER]: trace.requestId }
}

/**
 * The trace that headers hand on; null where they have none, or none that is well-formed. Without a request id it gets one. Whether to
 * believe it is the caller's to decide: behind a proxy of Signet it is the proxy's.
 */
export function traceOf(headers: MessageHeaders): TraceContext | null {
  const parent = parseTraceParent(textOf(valueOf(headers, TRACE_HEADER)))
  if (parent === null) return null
  const requestId = textOf(valueOf(headers, REQUEST_HEADER)) ?? ''
  return { ...parent, requestId: REQUEST_ID.test(requestId) ? requestId : crypto.randomUUID() }
}

/** A job's payload with the trace in it, as `signet_trace`. */
export function withTrace<T extends object>(
  payload: T,
  trace: TraceContext,
): T & { signet_trace: Record<string, string> } {
  return { ...payload, [JOB_MEMBER]: traceHeaders(trace) }
}

/** The trace of a job's payload; null as `traceOf`. */
export function traceOfJob(payload: unknown): TraceContext | null {
  const member = isObject(payload) ? payload[JOB_MEMBER] : undefined
  return isObject(member) ? traceOf(member) : null
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null
}

/** HTTP libraries write names in lower case, users of Kafka as they like; a name that is there twice counts for nothing. */
function valueOf(headers: MessageHeaders, wanted: string): unknown {
  const entries = headers instanceof Map ? [...headers] : Object.entries(headers)
  const found = entries.filter(([name]) => textOf(name)?.toLowerCase() === wanted)
  return found.length === 1 ? found[0]?.[1] : undefined
}

function textOf(value: unknown): string | undefined {
  if (typeof value === 'string') return value
  return value instanceof Uint8Array ? new TextDecoder().decode(value) : undefined
}

function randomHex(bytes: number): string {
  const random = crypto.getRandomValues(new Uint8Array(bytes))
  // All zero is no id.
  random[0] = (random[0] ?? 0) | 1
  return [...random].map((byte) => byte.toString(16).padStart(2, '0')).join('')
}
