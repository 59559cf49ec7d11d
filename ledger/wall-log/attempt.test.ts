import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { attemptOf, counted, redacted, type Attempt } from './attempt.ts'

describe('redacted', () => {
  test.each([
    { sql: "UPDATE t SET a = 'x''y' WHERE b = 42", want: 'UPDATE t SET a = ? WHERE b = ?' },
    { sql: String.raw`SELECT E'it\'s' , 1`, want: 'SELECT E? , ?' },
    { sql: 'DO $x$ secret $y$ $x$', want: 'DO ?' },
    { sql: 'DROP /* secret */ TABLE a -- secret', want: 'DROP TABLE a' },
    { sql: "ALTER ROLE a PASSWORD 'secret' VALID", want: 'ALTER ROLE a PASSWORD ?' },
    { sql: "COPY t FROM 'never closed", want: 'COPY t FROM ?' },
    { sql: 'A\nB\u0007C', want: 'A B C' },
  ])('$sql', ({ sql, want }) => expect(redacted(sql)).toBe(want))

  test('no literal comes through, whatever it holds', () => {
    fc.assert(
      fc.property(fc.string(), (value) => {
        const literal = `'${value.replaceAll("'", "''").replaceAll('\\', '')}~hunter2~'`
        expect(redacted(`UPDATE t SET a = ${literal}`)).toBe('UPDATE t SET a = ?')
      }),
    )
  })
})

test('any value is an attempt or is not, and never throws', () => {
  const watched = { database: 'wall', login: 'signet_ledger' }
  fc.assert(fc.property(fc.anything(), (value) => void attemptOf(value, watched)))
  const line = { dbname: 'wall', user: 'eve', message: 'statement: SELECT 1', session_id: 'a', line_num: 1 }
  expect(attemptOf(line, watched)).toBeNull()
  expect(attemptOf({ ...line, message: 'statement: DELETE FROM t' }, watched)?.kind).toBe('statement')
  expect(attemptOf({ ...line, message: 'statement: DELETE FROM t', dbname: 'other' }, watched)).toBeNull()
})

test('groups are bounded, and nothing goes uncounted', () => {
  const one = { kind: 'statement', login: 'eve', client: null, sqlstate: null, at: 'T', line: 'a/1' } as const
  const all: Attempt[] = Array.from({ length: 500 }, (_, n) => ({ ...one, command: `c${n % 100}` }))
  const groups = counted(all, 50)
  expect(groups.length).toBe(50)
  expect(groups.reduce((sum, { count }) => sum + count, 0)).toBe(500)
})
