import { readFileSync } from 'node:fs'
import { expect, it } from 'vitest'
import { STAMP_SCHEMA_PATH, stampSchema } from './generate-stamp-schema.ts'

it('docs/reference/stamp.schema.json is what `node tools/generate-stamp-schema.ts` writes', () => {
  expect(readFileSync(STAMP_SCHEMA_PATH, 'utf8')).toBe(stampSchema())
})
