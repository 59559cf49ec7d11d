// Writes the reference pages that are made from the code: run it after changing a configuration schema or an error code.
import { writeFile } from 'node:fs/promises'
import path from 'node:path'
import { PAGES } from './pages.ts'

for (const [page, render] of Object.entries(PAGES))
  await writeFile(path.resolve(import.meta.dirname, '../..', page), render())
