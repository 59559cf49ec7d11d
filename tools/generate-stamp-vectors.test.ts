import { readdirSync, readFileSync } from 'node:fs'
import { expect, it } from 'vitest'
import { stampVectors, VECTORS_FOLDER } from './generate-stamp-vectors.ts'

const vectors = stampVectors()

it('test/vectors/stamp has the files of the generator and no others', () => {
  expect(readdirSync(VECTORS_FOLDER).sort()).toEqual([...vectors.keys()].sort())
})
it.each([...vectors])('%s is what `node tools/generate-stamp-vectors.ts` writes', (name, wantText) => {
  expect(readFileSync(`${VECTORS_FOLDER}${name}`, 'utf8')).toBe(wantText)
})
