import { reducePaths } from '#engine/evaluate/paths.ts'
import { findReferences, ruleName, type Reference, type SyntaxTree } from './syntax.ts'

/** A package of the scope. */
export interface ReadSource {
  tree: SyntaxTree
  /** Package parts, without `data`. */
  names: readonly string[]
}

/**
 * What `decision` of the package at `start` may read of `input`, with all rules that it reaches in any package:
 * dotted paths, cut at the first part that is dynamic or holds a dot; `""` is all of it (bare `input`, `input[x]`,
 * `with input … as`). Conservative: a name counts as the rule or import of that name, even where a variable hides it, and a
 * reference that stops or turns dynamic above a rule reaches everything below.
 */
export function readSet(sources: readonly ReadSource[], start: number): string[] {
  const paths = new Set<string>()
  // Once for each package: an author's may have thousands of rules, each of which may be reached from each.
  const packages = sources.map(({ tree, names }) => ({
    names,
    rules: Map.groupBy(tree.rules ?? [], ruleName),
    imports: readImports(tree),
  }))
  const followed = new Set<string>()
  const queue: [source: number, rule: string][] = [[start, 'decision']]
  const seen = new Set<string>()
  const reach = (source: number, rule: string): void => {
    const key = `${source}/${rule}`
    if (!seen.has(key)) queue.push([source, rule])
    seen.add(key)
  }
  const follow = (reference: Reference): void => {
    if (reference.head === 'input') paths.add(reference.replaced ? '' : toDotted(reference.path))
    if (reference.head !== 'data') return
    const { path } = reference
    const key = JSON.stringify(path)
    if (followed.has(key)) return
    followed.add(key)
    packages.forEach(({ names, rules }, index) => {
      const shared = Math.min(names.length, path.length)
      if (!names.slice(0, shared).every((name, i) => name === path[i])) return
      const wanted = path[names.length]
      for (const rule of wanted === undefined ? rules.keys() : rules.has(wanted) ? [wanted] : []) reach(index, rule)
    })
  }
  for (const [index, rule] of queue) {
    const { rules, imports } = packages[index]!
    for (const reference of findReferences(rules.get(rule) ?? [])) {
      follow(reference)
      if (rules.has(reference.head)) reach(index, reference.head)
      const imported = imports.get(reference.head)
      if (imported !== undefined) {
        const path = imported.dynamic ? imported.path : [...imported.path, ...reference.path]
        follow({ ...imported, path, replaced: reference.replaced })
      }
    }
  }
  return reducePaths(paths)
}

/** What each imported name stands for. */
function readImports(tree: SyntaxTree): Map<string, Reference> {
  const imports = new Map<string, Reference>()
  for (const item of tree.imports ?? []) {
    const [reference] = findReferences(item.path)
    if (reference === undefined) continue
    imports.set(item.alias ?? reference.path.at(-1) ?? reference.head, reference)
  }
  return imports
}

function toDotted(path: readonly string[]): string {
  const cut = path.findIndex((part) => part.includes('.') || part === '')
  return (cut === -1 ? path : path.slice(0, cut)).join('.')
}
