import { generateKeyPairSync } from 'node:crypto'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { canonicalize } from '../canonical/jcs.ts'
import { readRestore, signRestore } from './restore.ts'

const { publicKey, privateKey } = generateKeyPairSync('ed25519')
const other = generateKeyPairSync('ed25519')
const unsigned = {
  version: 1,
  number: 1,
  origin: 'ledger.example.com',
  at: '2026-11-25T12:00:00.000Z',
  continues: { size: 10, root: 'ab'.repeat(32) },
  gives_up: { size: 20, root: 'cd'.repeat(32) },
  reason: 'case 7',
  by: 'admin',
  key_id: 'ack-1',
} as const
const statement = signRestore(unsigned, privateKey)
const bytesOf = (value: unknown): Buffer => Buffer.from(canonicalize(value))

describe('the statement of a restore', () => {
  test('is read as it was signed', () => {
    expect(readRestore(bytesOf(statement), [other.publicKey, publicKey])).toEqual(statement)
  })
  test.each([
    { what: 'another key', bytes: bytesOf(signRestore(unsigned, other.privateKey)) },
    { what: 'another number', bytes: bytesOf({ ...statement, number: 2 }) },
    { what: 'another head', bytes: bytesOf({ ...statement, continues: { ...statement.continues, size: 9 } }) },
    { what: 'another reason', bytes: bytesOf({ ...statement, reason: 'x' }) },
    { what: 'a field more', bytes: bytesOf({ ...statement, more: 1 }) },
    { what: 'number 0', bytes: bytesOf(signRestore({ ...unsigned, number: 0 }, privateKey)) },
    { what: 'other writing', bytes: Buffer.from(JSON.stringify(statement, null, 1)) },
    { what: 'no JSON', bytes: Buffer.from('{') },
  ])('with $what is none', ({ bytes }) => {
    expect(() => readRestore(bytes, [publicKey])).toThrow(expect.objectContaining({ code: 'ARCHIVE_INVALID' }))
  })
  test('of any bytes is none, and nothing but ARCHIVE_INVALID is thrown', () => {
    fc.assert(
      fc.property(
        fc.oneof(
          fc.uint8Array({ maxLength: 400 }),
          fc.json().map((text) => Buffer.from(text)),
        ),
        (bytes) => {
          expect(() => readRestore(Buffer.from(bytes), [publicKey])).toThrow(
            expect.objectContaining({ code: 'ARCHIVE_INVALID' }),
          )
        },
      ),
    )
  })
})
