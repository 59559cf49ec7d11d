import { randomBytes } from 'node:crypto'
import { describe, expect, it } from 'vitest'
import { SealKey } from './cipher.ts'
import {
  canonicalName,
  isEmail,
  nameIndex,
  openName,
  sealName,
  unwrapIndexKey,
  unwrapSubjectKey,
  wrapIndexKey,
  wrapSubjectKey,
} from './wrap.ts'

const newKey = (): SealKey => new SealKey(randomBytes(32))
const [master, other] = [newKey(), newKey()]
const nonce = (): Buffer => randomBytes(24)

describe('wrapped keys', () => {
  const key = newKey()
  const wrapped = wrapSubjectKey(master, 'acme', 'id-1', key, nonce())
  const sealed = sealName(key, 'acme', 'id-1', 'anna', nonce())

  it('come back with their master, for their tenant and subject', () => {
    expect(unwrapSubjectKey(master, 'acme', 'id-1', wrapped).export()).toEqual(key.export())
    expect(openName(key, 'acme', 'id-1', sealed)).toBe('anna')
    const index = newKey()
    expect(unwrapIndexKey(master, 'acme', wrapIndexKey(master, 'acme', index, nonce())).export()).toEqual(
      index.export(),
    )
  })

  it.each([
    { name: 'another master', open: () => unwrapSubjectKey(other, 'acme', 'id-1', wrapped) },
    { name: 'another tenant', open: () => unwrapSubjectKey(master, 'globex', 'id-1', wrapped) },
    { name: 'another subject', open: () => unwrapSubjectKey(master, 'acme', 'id-2', wrapped) },
    { name: 'an index key', open: () => unwrapIndexKey(master, 'acme', wrapped) },
    { name: 'a name of another subject', open: () => openName(key, 'acme', 'id-2', sealed) },
    { name: 'a name as a key', open: () => unwrapSubjectKey(key, 'acme', 'id-1', sealed) },
  ])('do not as $name', ({ open }) => expect(open).toThrow(expect.objectContaining({ code: 'SEAL_INVALID' })))
})

it('a name is found by its index in every way to write it, in its tenant', () => {
  const key = newKey()
  const index = nameIndex(key, 'acme', 'Anna@Example.com')
  expect(index).toHaveLength(32)
  expect(nameIndex(key, 'acme', 'anna@example.com')).toEqual(index)
  expect(nameIndex(key, 'globex', 'anna@example.com')).not.toEqual(index)
  expect(nameIndex(newKey(), 'acme', 'anna@example.com')).not.toEqual(index)
  expect(nameIndex(key, 'acme', 'zoe\u0308')).toEqual(nameIndex(key, 'acme', 'zo\u00eb'))
  expect(nameIndex(key, 'acme', 'Anna')).not.toEqual(nameIndex(key, 'acme', 'anna'))
  expect(canonicalName('a\0b')).toBe('a\u2400b')
})

it.each([
  { text: 'a@b.de', want: true },
  { text: 'a.b+c@d.e.f', want: true },
  { text: '', want: false },
  { text: 'a', want: false },
  { text: '@b.de', want: false },
  { text: 'a@b', want: false },
  { text: 'a@b.de.', want: false },
  { text: 'a@b..de', want: false },
  { text: 'a@b@c.de', want: false },
  { text: 'a b@c.de', want: false },
  { text: 'user:a@b.de', want: false },
  { text: `${'a'.repeat(65)}@b.de`, want: false },
])('isEmail($text) is $want', ({ text, want }) => expect(isEmail(text)).toBe(want))
