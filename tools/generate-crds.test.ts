import { readdirSync, readFileSync } from 'node:fs'
import { describe, expect, it } from 'vitest'
import Type from 'typebox'
import { CRD_DIRECTORY, crdFiles, structural } from './generate-crds.ts'

describe('crds/', () => {
  const files = crdFiles()

  it('holds the generated files and no others', () => {
    expect(
      readdirSync(CRD_DIRECTORY)
        .filter((name) => name.endsWith('.yaml'))
        .sort(),
    ).toEqual([...files.keys()].sort())
  })

  it.each([...files])('%s is what `node tools/generate-crds.ts` writes', (name, text) => {
    expect(readFileSync(`${CRD_DIRECTORY}${name}`, 'utf8')).toBe(text)
  })
})

describe('structural', () => {
  it('refuses a keyword that it would lose', () => {
    expect(() => structural(Type.Object({ a: Type.Number({ multipleOf: 2 }) }) as never, 'spec')).toThrow(
      'spec.a: no structural schema has multipleOf',
    )
  })

  it('makes enumerations strings, and values of several types free', () => {
    expect(structural(Type.Enum(['a', 'b']) as never)).toEqual({ type: 'string', enum: ['a', 'b'] })
    expect(structural(Type.Union([Type.String(), Type.Number()]) as never)).toEqual({
      'x-kubernetes-preserve-unknown-fields': true,
    })
  })
})
