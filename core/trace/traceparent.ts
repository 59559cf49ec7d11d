/** A W3C trace context: ids in lowercase hex, not all zero; `flags` is the byte of trace flags (bit 0: sampled). */
export type TraceParent = { readonly traceId: string; readonly parentId: string; readonly flags: number }

const FIELDS = /^([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?$/
export const FLAG_SAMPLED = 0x01
export const FLAG_RANDOM = 0x02

/**
 * Parses a `traceparent` header strictly (W3C Trace Context, section 3.2): lowercase hex only, version `ff` and all-zero ids
 * are invalid, version 00 has nothing after the flags, and a higher version is read as far as version 00 goes.
 * Anything else, also two header values joined, is null: the caller starts a trace of its own.
 */
export function parseTraceParent(value: string | undefined): TraceParent | null {
  if (value === undefined || value.length < 55 || value.length > 512) return null
  const match = FIELDS.exec(value)
  if (match === null) return null
  const [, version, traceId, parentId, flags, rest] = match as unknown as [
    string,
    string,
    string,
    string,
    string,
    string?,
  ]
  if (version === 'ff' || (version === '00' && rest !== undefined)) return null
  if (/^0+$/.test(traceId) || /^0+$/.test(parentId)) return null
  const bits = Number.parseInt(flags, 16)
  // Of a version that we do not know, only the flag that every version has is meaningful.
  return { traceId, parentId, flags: version === '00' ? bits : bits & FLAG_SAMPLED }
}

/** Formats version 00. Flags that version 00 and level 2 do not define are sent as zero, as the specification asks. */
export function formatTraceParent(context: TraceParent): string {
  const flags = context.flags & (FLAG_SAMPLED | FLAG_RANDOM)
  return `00-${context.traceId}-${context.parentId}-0${flags.toString(16)}`
}
