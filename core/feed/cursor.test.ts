import fc from 'fast-check'
import { expect, test } from 'vitest'
import { cursorHolds, decodeFeedCursor, encodeFeedCursor } from './cursor.ts'

test('a cursor comes back as it was given out, and holds for its link alone', () => {
  fc.assert(
    fc.property(
      fc.integer({ min: 1, max: 999_999_999_999_999 }),
      fc.uint8Array({ minLength: 32, maxLength: 32 }),
      (seq, bytes) => {
        const hash = Buffer.from(bytes)
        const cursor = decodeFeedCursor(encodeFeedCursor(seq, hash))
        expect(cursor.seq).toBe(seq)
        expect(cursorHolds(cursor, hash)).toBe(true)
        const other = Buffer.from(hash)
        other[0] = (other[0] ?? 0) ^ 1
        expect(cursorHolds(cursor, other)).toBe(false)
      },
    ),
  )
})

test('anything else is refused', () => {
  fc.assert(
    fc.property(fc.string({ maxLength: 100 }), (text) => {
      expect(() => decodeFeedCursor(text)).toThrow('not a cursor')
    }),
  )
})
