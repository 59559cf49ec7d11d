// Writes what is made from other files: the CRD chart's templates and docs/reference/values.md. Run it after changing crds/ or values.yaml.
import { writeFile } from 'node:fs/promises'
import path from 'node:path'
import { chartFiles } from './chart-pages.ts'

for (const [file, text] of Object.entries(chartFiles()))
  await writeFile(path.resolve(import.meta.dirname, '../..', file), text)
