/**
 * Whether a text in the form of `TimestampUtc` names a moment that exists: the pattern alone lets `2026-02-30` and second 60 pass.
 * Year 0 is refused as well: several languages and databases have none.
 */
export function isRealTimestamp(timestamp: string): boolean {
  if (timestamp.startsWith('0000')) return false
  const ms = Date.parse(timestamp)
  return !Number.isNaN(ms) && new Date(ms).toISOString() === timestamp
}

let lastMs = NaN
let lastText = ''

/** `TimestampUtc` of milliseconds since the epoch. The same millisecond is often asked for again, and writing it is not cheap. */
export function formatTime(ms: number): string {
  if (ms !== lastMs) {
    lastText = new Date(ms).toISOString()
    lastMs = ms
  }
  return lastText
}
