/** The parts of OPA's JSON syntax tree (`opa parse --format json --json-include locations`) that the compiler looks at. */
export interface Location {
  row: number
  /** Counts code points from 1. */
  col: number
  /** Base64 of the source text. */
  text?: string
}

export interface Term {
  type: string
  value: unknown
  location?: Location
}

export interface SyntaxTree {
  package: { location: Location; path: Term[] }
  imports?: Import[]
  annotations?: Annotation[]
  rules?: Rule[]
}

export interface Import {
  location: Location
  path: Term
  alias?: string
}

export interface Rule {
  head: { name?: string; args?: unknown[]; ref?: Term[] }
}

export interface Annotation {
  scope: string
  title?: unknown
  custom?: unknown
  location?: Location
}

/** A reference: a name and what is looked up in it. */
export interface Reference {
  /** `data`, `input`, or the name of a rule, an import, a variable or a built-in. */
  head: string
  /** Static elements before the first dynamic one. */
  path: string[]
  /** True when an element is not a constant string. */
  dynamic: boolean
  /** Where the head stands. */
  location: Location
  /** The target of `with … as`. */
  replaced: boolean
}

/** First part of the name of a rule: `a` for `a.b.c := 1`. */
export function ruleName(rule: Rule): string {
  const first = rule.head.ref?.[0]?.value
  return typeof first === 'string' ? first : (rule.head.name ?? '')
}

/** Names of the package, without the implicit `data`. */
export function packagePath(tree: SyntaxTree): string[] {
  return tree.package.path.slice(1).map((term) => String(term.value))
}

/** Every reference to `data` and `input` in imports and rules. */
export function findRootReferences(tree: SyntaxTree): Reference[] {
  return findReferences([(tree.imports ?? []).map((item) => item.path), tree.rules ?? []]).filter(
    ({ head }) => head === 'data' || head === 'input',
  )
}

/** Every reference below a node, wherever it stands: heads, bodies, comprehensions, templates. */
export function findReferences(root: unknown): Reference[] {
  const found: Reference[] = []
  const visit = (node: unknown, replaced: boolean): void => {
    if (Array.isArray(node)) {
      for (const item of node) visit(item, replaced)
      return
    }
    if (typeof node !== 'object' || node === null) return
    const { type, value } = node as Partial<Term>
    if (type === 'var') {
      found.push(toReference(node as Term, [], replaced))
      return
    }
    if (type === 'ref' && Array.isArray(value)) {
      const [head, ...rest] = value as Term[]
      if (head?.type === 'var') found.push(toReference(head, rest, replaced))
      else visit(head, false)
      visit(rest, false)
      return
    }
    for (const [name, member] of Object.entries(node)) {
      if (name !== 'location') visit(member, name === 'target')
    }
  }
  visit(root, false)
  return found
}

function toReference(head: Term, rest: readonly Term[], replaced: boolean): Reference {
  const path: string[] = []
  for (const term of rest) {
    if (term.type !== 'string') break
    path.push(String(term.value))
  }
  return {
    head: String(head.value),
    path,
    dynamic: path.length < rest.length,
    location: head.location ?? { row: 1, col: 1 },
    replaced,
  }
}
