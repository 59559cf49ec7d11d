import { readdir, readFile } from 'node:fs/promises'
import path from 'node:path'
import type { RuleSource } from './compile.ts'

/** The Rego files of a rule pack but its tests, in the order of their paths; each path begins with the folder's name. @throws the file system's errors */
export async function readPackSources(directory: string): Promise<RuleSource[]> {
  const names = (await readdir(directory, { recursive: true }))
    .map((name) => name.replaceAll('\\', '/'))
    .filter((name) => name.endsWith('.rego') && !name.endsWith('_test.rego'))
    .sort()
  return Promise.all(
    names.map(async (name) => ({
      path: `${path.basename(directory)}/${name}`,
      text: await readFile(path.join(directory, name), 'utf8'),
    })),
  )
}
