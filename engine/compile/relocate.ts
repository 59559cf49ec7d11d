import { POLICY_DATA } from '#engine/bundle/layout.ts'
import type { RuleProblem } from './problem.ts'
import { findRootReferences, packagePath, type Reference, type SyntaxTree } from './syntax.ts'

/**
 * Pushes a problem unless a reference below `data` is to policy data or to packages of the scope: `data.signet`, all of
 * `data`, `data[x]`, or a package that is not there.
 */
export function checkReference(
  { path, location }: Reference,
  packages: readonly (readonly string[])[],
  file: string,
  problems: RuleProblem[],
  allowed = 'the packages of this scope',
): void {
  if (path[0] === POLICY_DATA) return
  const isAboveOrBelow = (names: readonly string[]): boolean =>
    names.slice(0, path.length).every((name, i) => name === path[i])
  if (path.length > 0 && packages.some(isAboveOrBelow)) return
  problems.push({
    file,
    line: location.row,
    column: location.col,
    message:
      `refers to ${path.length === 0 ? 'all of data' : `data.${path.join('.')}`}; ` +
      `allowed are ${allowed} and data.${POLICY_DATA}`,
  })
}

/**
 * The source with its package and all references to packages moved below `data.HOME`. Works on positions that the parser gave; line
 * numbers stay. Throws Error where the source does not have at a position what the tree says.
 */
export function relocate(text: string, tree: SyntaxTree, home: readonly string[]): string {
  const prefix = home.join('.')
  const edits = new Map<string, { row: number; col: number; expect: string; insert: string; after: boolean }>()
  const start = tree.package.path[0]!.location!
  edits.set(`${start.row}:${start.col}`, {
    ...start,
    expect: packagePath(tree)[0]!,
    insert: `${prefix}.`,
    after: false,
  })
  for (const reference of findRootReferences(tree)) {
    if (reference.head !== 'data' || reference.path[0] === POLICY_DATA) continue
    const { row, col } = reference.location
    edits.set(`${row}:${col}`, { row, col, expect: 'data', insert: `.${prefix}`, after: true })
  }
  const lines = text.split('\n').map((line) => Array.from(line))
  // From the end of each line, so that earlier columns stay right.
  for (const edit of [...edits.values()].sort((a, b) => b.row - a.row || b.col - a.col)) {
    const line = lines[edit.row - 1] ?? []
    const at = edit.col - 1
    const length = Array.from(edit.expect).length
    if (line.slice(at, at + length).join('') !== edit.expect) {
      throw new Error(`line ${edit.row}, column ${edit.col} does not hold ${edit.expect}`)
    }
    line.splice(edit.after ? at + length : at, 0, ...Array.from(edit.insert))
  }
  return lines.map((line) => line.join('')).join('\n')
}

/** Whether a relocated source, parsed again, stays below `data.HOME`: the check that does not trust `relocate`. */
export function staysAtHome(tree: SyntaxTree, home: readonly string[]): boolean {
  const isAtHome = (path: readonly string[]): boolean => home.every((name, i) => path[i] === name)
  return (
    isAtHome(packagePath(tree)) &&
    findRootReferences(tree).every((r) => r.head !== 'data' || r.path[0] === POLICY_DATA || isAtHome(r.path))
  )
}
