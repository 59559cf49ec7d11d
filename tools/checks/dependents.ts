import { existsSync, globSync, readFileSync } from 'node:fs'
import path from 'node:path'

const IMPORT = /(?:\bfrom\s*|\bimport\s*\(?\s*)['"]((?:#|\.{1,2}\/)[^'"]+)['"]/g

/**
 * The files of `patterns` that import `target`, directly or through others: those that have to wait for it. Paths are relative to
 * `root`. Type-only imports count too: too many wait rather than too few.
 */
export function dependentsOf(target: string, patterns: readonly string[], root: string): string[] {
  const goal = path.join(root, target)
  const verdicts = new Map<string, boolean>()
  const reaches = (file: string): boolean => {
    if (file === goal) return true
    const known = verdicts.get(file)
    if (known !== undefined) return known
    verdicts.set(file, false)
    const verdict = importsOf(file, root).some(reaches)
    verdicts.set(file, verdict)
    return verdict
  }
  return globSync([...patterns], { cwd: root })
    .filter((file) => !file.split(path.sep).includes('node_modules'))
    .filter((file) => reaches(path.join(root, file)))
    .sort()
}

function importsOf(file: string, root: string): string[] {
  if (!existsSync(file)) return []
  return [...readFileSync(file, 'utf8').matchAll(IMPORT)].map(([, specifier = '']) =>
    specifier.startsWith('#') ? path.join(root, specifier.slice(1)) : path.resolve(path.dirname(file), specifier),
  )
}
