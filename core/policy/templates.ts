/** The path templates of rules: which of them a path matches. */
export type TemplateTable = {
  /**
   * `readings`: the path's segments, lower-case, in each way that a server may read it. Gives the templates as rules have them, sorted; the
   * array is the caller's to read only.
   */
  match(readings: Iterable<readonly string[]>): string[]
  readonly isEmpty: boolean
}

type Node = {
  readonly literals: Map<string, Node>
  variable: Node | null
  /** Templates that end here. */
  ends: string[]
  /** Templates that go on with `**`. */
  open: string[]
}

const NONE: string[] = []

/**
 * Templates are as those of routes (`docs/reference/policy-data.md`): `{name}` matches one segment, a last `**` any rest, case does not count. A tree, since rules
 * may have thousands: what a path matches is found in a few steps for each segment.
 */
export function compileTemplates(templates: Iterable<string>): TemplateTable {
  const root = newNode()
  let isEmpty = true
  for (const template of new Set(templates)) {
    add(root, template)
    isEmpty = false
  }
  return {
    isEmpty,
    match(readings) {
      const found = new Set<string>()
      for (const segments of readings) collect(root, segments, 0, found)
      return found.size === 0 ? NONE : [...found].sort()
    },
  }
}

function newNode(): Node {
  return { literals: new Map(), variable: null, ends: [], open: [] }
}

function add(root: Node, template: string): void {
  let node = root
  const segments = template.split('/').filter((segment) => segment !== '')
  for (const [i, segment] of segments.entries()) {
    if (segment === '**' && i === segments.length - 1) {
      node.open.push(template)
      return
    }
    if (segment.startsWith('{') && segment.endsWith('}')) node = node.variable ??= newNode()
    else {
      const literal = segment.toLowerCase()
      let next = node.literals.get(literal)
      if (next === undefined) node.literals.set(literal, (next = newNode()))
      node = next
    }
  }
  node.ends.push(template)
}

function collect(node: Node, segments: readonly string[], at: number, found: Set<string>): void {
  for (const template of node.open) found.add(template)
  if (at === segments.length) {
    for (const template of node.ends) found.add(template)
    return
  }
  const literal = node.literals.get(segments[at] as string)
  if (literal !== undefined) collect(literal, segments, at + 1, found)
  if (node.variable !== null) collect(node.variable, segments, at + 1, found)
}
