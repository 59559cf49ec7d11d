import pg from 'pg'
import { describe, expect, test } from 'vitest'
import { retryConflicts, unavailable } from './transaction.ts'

function databaseError(code: string): pg.DatabaseError {
  const error = new pg.DatabaseError('', 0, 'error')
  error.code = code
  return error
}
const withCode = (code: string): Error => Object.assign(new Error('x'), { code })

describe('unavailable', () => {
  test.each([
    { name: 'shutdown', error: databaseError('57P01'), want: true },
    { name: 'starting up', error: databaseError('57P03'), want: true },
    { name: 'time-out', error: databaseError('57014'), want: true },
    { name: 'disk full', error: databaseError('53100'), want: true },
    { name: 'connection lost', error: databaseError('08006'), want: true },
    { name: 'unique violation', error: databaseError('23505'), want: false },
    { name: 'no privilege', error: databaseError('42501'), want: false },
    { name: 'refused', error: withCode('ECONNREFUSED'), want: true },
    { name: 'refused on every address', error: new AggregateError([withCode('ECONNREFUSED')]), want: true },
    { name: 'cut', error: new Error('Connection terminated unexpectedly'), want: true },
    { name: 'a defect of ours', error: new TypeError('x is not a function'), want: false },
    { name: 'a file that is not there', error: withCode('ENOENT'), want: false },
  ])('$name: $want', ({ error, want }) => {
    expect(unavailable(error)?.code).toBe(want ? 'DATABASE_UNAVAILABLE' : undefined)
  })
})

describe('retryConflicts', () => {
  test.each([
    { name: 'serialization failure', error: databaseError('40001'), wantCalls: 3 },
    { name: 'deadlock', error: databaseError('40P01'), wantCalls: 3 },
    { name: 'anything else', error: databaseError('23505'), wantCalls: 1 },
  ])('$name: $wantCalls calls', async ({ error, wantCalls }) => {
    let calls = 0
    const work = (): Promise<never> => {
      calls += 1
      return Promise.reject(error)
    }
    await expect(retryConflicts(3, work)).rejects.toBe(error)
    expect(calls).toBe(wantCalls)
  })
})
