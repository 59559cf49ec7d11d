import { createHash } from 'node:crypto'
import fc from 'fast-check'
import { expect, it } from 'vitest'
import { TraceHeads } from './trace-heads.ts'

const digest = (text: string): Buffer => createHash('sha256').update(text).digest()

/** The same by a Map, which keeps the order in which its keys were put in. */
function createModel(maxTraces: number) {
  const heads = new Map<string, string>()
  let hasForgotten = false
  return {
    advance(trace: string, hash: string): string | undefined {
      const before = heads.get(trace)
      heads.delete(trace)
      heads.set(trace, hash)
      if (heads.size > maxTraces) {
        heads.delete(heads.keys().next().value!)
        hasForgotten = true
      }
      return before
    },
    get hasForgotten() {
      return hasForgotten
    },
  }
}

it('remembers the traces that were touched last, however many there are and in whatever order they come', () => {
  fc.assert(
    fc.property(
      fc.integer({ min: 1, max: 12 }),
      fc.array(fc.nat({ max: 15 }), { maxLength: 200, size: 'max' }),
      (max, traces) => {
        const heads = new TraceHeads(max)
        const model = createModel(max)
        for (const [step, trace] of traces.entries()) {
          const hash = digest(`hash ${step}`)
          const want = model.advance(String(trace), hash.toString('hex'))
          expect(heads.advance(digest(`trace ${trace}`), hash)?.toString('hex')).toBe(want)
          expect(heads.hasForgotten).toBe(model.hasForgotten)
        }
      },
    ),
  )
})

it('keeps each one while it grows', () => {
  const heads = new TraceHeads(1_000_000)
  for (let trace = 0; trace < 5_000; trace++) heads.advance(digest(`trace ${trace}`), digest(`first ${trace}`))
  for (let trace = 0; trace < 5_000; trace++) {
    const before = heads.advance(digest(`trace ${trace}`), digest(`second ${trace}`))
    if (before?.equals(digest(`first ${trace}`)) !== true) expect(trace).toBe('a trace whose head is kept')
  }
  const entry = heads.find(digest('trace 4999'), 0)
  expect(heads.isHead(entry, digest('second 4999'), 0)).toBe(true)
  expect(heads.isHead(entry, digest('first 4999'), 0)).toBe(false)
  expect(heads.find(digest('trace 5000'), 0)).toBe(-1)
})
