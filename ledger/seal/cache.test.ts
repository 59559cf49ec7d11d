import { describe, expect, it } from 'vitest'
import { SealKey } from '#core/seal/cipher.ts'
import { SubjectCache } from './cache.ts'

const key = new SealKey(Buffer.alloc(32))
const subject = (subjectId: string) => ({ subjectId, key })

function cacheAt(maxSubjects = 3) {
  let time = 0
  const cache = new SubjectCache({ maxSubjects, freshMs: 10, maxAgeMs: 100, now: () => time })
  return { cache, at: (ms: number) => (time = ms) }
}

describe('SubjectCache', () => {
  it('gives what is fresh as fresh, and for longer where nobody can be asked', () => {
    const { cache, at } = cacheAt()
    cache.keep('acme', 'anna', subject('1'))
    at(10)
    expect(cache.fresh('acme', 'anna')?.subjectId).toBe('1')
    at(11)
    expect([cache.fresh('acme', 'anna'), cache.stale('acme', 'anna')?.subjectId]).toEqual([undefined, '1'])
    at(101)
    expect(cache.stale('acme', 'anna')).toBeUndefined()
  })

  it('keeps tenants apart, whatever they are called', () => {
    const { cache } = cacheAt()
    cache.keep('a', '1:a\nanna', subject('1'))
    expect(cache.fresh('a', 'anna')).toBeUndefined()
    expect(cache.fresh('a\n1:a', 'anna')).toBeUndefined()
    expect(cache.fresh('b', '1:a\nanna')).toBeUndefined()
  })

  it('is bounded: who was looked up longest ago goes first', () => {
    const { cache } = cacheAt()
    for (const name of ['a', 'b', 'c', 'a', 'd']) cache.keep('acme', name, subject(name))
    expect(cache.size).toBe(3)
    expect(['a', 'b', 'c', 'd'].filter((name) => cache.fresh('acme', name) !== undefined)).toEqual(['a', 'c', 'd'])
  })

  it('forgets names that nobody asks for any more, by itself and when told', () => {
    const { cache, at } = cacheAt(100)
    cache.keep('acme', 'a', subject('1'))
    at(50)
    cache.keep('acme', 'b', subject('2'))
    at(120)
    cache.keep('acme', 'c', subject('3'))
    expect(cache.size).toBe(2)
    at(300)
    cache.sweep()
    expect(cache.size).toBe(0)
    cache.keep('acme', 'a', subject('1'))
    cache.keep('globex', 'a', subject('1'))
    cache.forget('acme', '1')
    expect([cache.fresh('acme', 'a'), cache.fresh('globex', 'a')?.subjectId]).toEqual([undefined, '1'])
  })
})
