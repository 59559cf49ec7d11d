/**
 * Route templates: `/customers/{id}`, `/reports/**`. `{name}` matches one segment, a last `**` any rest. The most specific
 * template wins: a literal segment before a variable, before `**`; then the earlier one.
 */
export type RouteTable<T extends { readonly template: string; readonly methods?: readonly string[] }> = {
  match(method: string, path: string): T | null
}

type Compiled<T> = { route: T; segments: string[]; open: boolean; methods: ReadonlySet<string> | null; rank: string }

export function compileRoutes<T extends { readonly template: string; readonly methods?: readonly string[] }>(
  routes: readonly T[],
): RouteTable<T> {
  const compiled = routes.map((route, i): Compiled<T> => {
    const segments = normalizedSegments(route.template)
    const open = segments.at(-1) === '**'
    if (open) segments.pop()
    const rank = segments.map((segment) => (isVariable(segment) ? '1' : '0')).join('') + (open ? '2' : '')
    return {
      route,
      segments,
      open,
      methods: route.methods === undefined ? null : new Set(route.methods),
      rank: `${rank}:${String(i).padStart(6, '0')}`,
    }
  })
  compiled.sort((a, b) => (a.rank < b.rank ? -1 : 1))
  // Most routes share few lengths: look only at those that can match.
  const closedByLength = new Map<number, Compiled<T>[]>()
  const open = compiled.filter((candidate) => candidate.open)
  for (const candidate of compiled) {
    if (candidate.open) continue
    const list = closedByLength.get(candidate.segments.length)
    if (list === undefined) closedByLength.set(candidate.segments.length, [candidate])
    else list.push(candidate)
  }
  return {
    match(method, path) {
      if (compiled.length === 0) return null
      const segments = normalizedSegments(path)
      for (const candidate of closedByLength.get(segments.length) ?? []) {
        if (matches(candidate, method, segments)) return candidate.route
      }
      for (const candidate of open) {
        if (candidate.segments.length <= segments.length && matches(candidate, method, segments)) return candidate.route
      }
      return null
    },
  }
}

function isVariable(segment: string): boolean {
  return segment.startsWith('{') && segment.endsWith('}')
}

function matches<T>(candidate: Compiled<T>, method: string, segments: readonly string[]): boolean {
  if (candidate.methods !== null && !candidate.methods.has(method === 'HEAD' ? 'GET' : method)) return false
  return candidate.segments.every((segment, i) => isVariable(segment) || segment === segments[i])
}

/**
 * What an origin server may take a path for: percent-encoding decoded, empty and dot segments resolved, `;parameters` cut
 * (RFC 3986 §6.2.2), so that `/a/%2e%2e/customers//7;x` cannot slip past the template `/customers/{id}`.
 */
function normalizedSegments(path: string): string[] {
  const out: string[] = []
  for (const raw of path.split('/')) {
    let segment = raw
    if (segment.includes('%')) {
      try {
        segment = decodeURIComponent(segment)
      } catch {
        // Not decodable: compared as it is.
      }
    }
    // A decoded slash or backslash is a separator to many servers.
    for (let part of segment.split(/[/\\]/)) {
      const parameters = part.indexOf(';')
      if (parameters !== -1) part = part.slice(0, parameters)
      if (part === '' || part === '.') continue
      if (part === '..') out.pop()
      else out.push(part)
    }
  }
  return out
}
