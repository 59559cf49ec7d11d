import { describe, expect, it } from 'vitest'
import { LineBatch } from './line-batch.ts'
import { RecentLines } from './recent-lines.ts'

const LIMITS = { batchItems: 4, batchBytes: 64, batches: 2 }

function append(recent: RecentLines, text: string, seq: number, start: number): void {
  const source = Buffer.from(text)
  recent.add(1, start, start + source.length, seq, source, 0, source.length)
}
const bodyOf = (batch: LineBatch | null): string | undefined =>
  batch?.bodyOf(Array.from({ length: batch.count }, (_, index) => index)).toString()

describe('RecentLines', () => {
  it('hands over what was appended', () => {
    const recent = new RecentLines(LIMITS)
    append(recent, '{"a":1}', 1, 0)
    append(recent, '{"b":2}', 2, 7)
    expect(bodyOf(recent.take(1, 0, 10, 100))).toBe('{"a":1}\n{"b":2}\n')
  })

  it('uses the buffer of a batch again', () => {
    const recent = new RecentLines(LIMITS)
    append(recent, '{"a":1}', 1, 0)
    const first = recent.take(1, 0, 10, 100)!
    recent.release(first)
    append(recent, '{"b":2}', 2, 7)
    const second = recent.take(1, 7, 10, 100)
    expect(second).toBe(first)
    expect(bodyOf(second)).toBe('{"b":2}\n')
  })

  it.each([
    { what: 'bytes', spare: new LineBatch(Buffer.alloc(8), 4) },
    { what: 'lines', spare: new LineBatch(Buffer.alloc(64), 1) },
  ])('does not use one that was read from a file and has room for fewer $what', ({ spare }) => {
    const recent = new RecentLines(LIMITS)
    recent.release(spare)
    append(recent, '{"long":"a line"}', 1, 0)
    append(recent, '{"b":2}', 2, 17)
    expect(bodyOf(recent.take(1, 0, 10, 100))).toBe('{"long":"a line"}\n{"b":2}\n')
  })
})
