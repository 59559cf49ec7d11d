import { expect, it } from 'vitest'
import { isRealTimestamp } from './timestamp.ts'

it.each([
  { text: '2026-11-23T09:30:00.123Z', want: true },
  { text: '2024-02-29T00:00:00.000Z', want: true },
  { text: '9999-12-31T23:59:59.999Z', want: true },
  { text: '2026-02-29T00:00:00.000Z', want: false },
  { text: '2026-13-01T00:00:00.000Z', want: false },
  { text: '2026-01-01T24:00:00.000Z', want: false },
  { text: '2026-12-31T23:59:60.000Z', want: false },
  { text: '0000-01-01T00:00:00.000Z', want: false },
  { text: '2026-01-01T00:00:00Z', want: false },
])('$text is a moment: $want', ({ text, want }) => expect(isRealTimestamp(text)).toBe(want))
