import { createHash, randomUUID } from 'node:crypto'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { StampStore, type StoredStamp } from './store.ts'

function stored(jcs: string, more: Partial<StoredStamp> = {}): StoredStamp {
  const hash = `sha256:${createHash('sha256').update(jcs).digest('hex')}`
  return { jcs, hash, channel: 'external', tenant: 'acme', ...more }
}

describe('StampStore', () => {
  it('gives back what was added, by hash and by request', () => {
    const store = new StampStore(65_536)
    const [first, second] = [stored('{"a":"ä€😀"}', { tenant: 'café', channel: 'internal' }), stored('{}')]
    const requestId = randomUUID()
    store.add(requestId, first)
    store.add(null, second)
    expect(store.byHash(first.hash)).toEqual(first)
    expect(store.byHash(second.hash)).toEqual(second)
    expect(store.byRequest(requestId)).toEqual(first)
  })

  it('knows nothing that was not added', () => {
    const store = new StampStore(65_536)
    expect(store.byHash(stored('x').hash)).toBeNull()
    const added = stored('{}')
    store.add(randomUUID(), added)
    // The same last digits lead to the same place.
    expect(store.byHash(`sha256:${'0'.repeat(56)}${added.hash.slice(-8)}`)).toBeNull()
    expect(store.byRequest(randomUUID())).toBeNull()
    expect(store.byRequest('')).toBeNull()
  })

  it('does not let one stamp push out the others', () => {
    const store = new StampStore(65_536)
    const [small, huge] = [stored('{}'), stored('x'.repeat(40_000))]
    store.add(null, small)
    store.add(null, huge)
    expect(store.byHash(huge.hash)).toBeNull()
    expect(store.byHash(small.hash)).toEqual(small)
  })

  it('keeps what was added last, whatever came before, and never gives something else', () => {
    const sizes = fc.array(fc.integer({ min: 0, max: 8_000 }), { minLength: 1, maxLength: 200 })
    fc.assert(
      fc.property(sizes, (lengths) => {
        const store = new StampStore(65_536)
        const all = lengths.map((length, nth) => ({ id: randomUUID(), it: stored(`${nth}${'é'.repeat(length)}`) }))
        for (const { id, it } of all) store.add(id, it)
        let kept = 0
        for (const { id, it } of all.toReversed()) {
          kept += 2 * it.jcs.length + 150
          // The end of the block may stay unused, for less than the longest.
          const wanted = kept < 65_536 - 17_000 ? [it] : [it, null]
          expect(wanted).toContainEqual(store.byHash(it.hash))
          expect(wanted).toContainEqual(store.byRequest(id))
        }
      }),
      { numRuns: 50 },
    )
  })

  it('loses few before their time where all are of the usual size', () => {
    const store = new StampStore(1_048_576)
    const all = Array.from({ length: 3_000 }, (_, nth) => stored(`${nth}${'x'.repeat(900)}`))
    for (const it of all) store.add(null, it)
    const fitting = all.slice(-1_000)
    expect(fitting.filter((it) => store.byHash(it.hash) !== null).length).toBeGreaterThan(970)
  })
})
