import { writeFile } from 'node:fs/promises'
import { fileURLToPath } from 'node:url'
import { Stamp } from '#core/stamp/schema.ts'

export const STAMP_SCHEMA_PATH = fileURLToPath(new URL('../docs/reference/stamp.schema.json', import.meta.url))

/** JSON Schema of the stamp, as text, from the definition that types and validation come from. */
export function stampSchema(): string {
  return `${JSON.stringify({ $schema: 'https://json-schema.org/draft/2020-12/schema', ...Stamp }, null, 2)}\n`
}

// `node tools/generate-stamp-schema.ts` writes it.
if (import.meta.main) await writeFile(STAMP_SCHEMA_PATH, stampSchema())
