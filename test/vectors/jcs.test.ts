import { readdirSync, readFileSync } from 'node:fs'
import { describe, expect, it } from 'vitest'
import { canonicalize } from '#core/canonical/jcs.ts'

const folder = new URL('./jcs/', import.meta.url)
const names = readdirSync(new URL('input/', folder))

describe('canonicalize, against the vectors of cyberphone/json-canonicalization', () => {
  it('has vectors', () => expect(names).toHaveLength(6))
  it.each(names)('%s', (name) => {
    const input = JSON.parse(readFileSync(new URL(`input/${name}`, folder), 'utf8')) as unknown
    const wantBytes = readFileSync(new URL(`output/${name}`, folder))
    expect(Buffer.from(canonicalize(input)).equals(wantBytes)).toBe(true)
  })
})
