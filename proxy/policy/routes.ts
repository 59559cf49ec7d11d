import { CLASSIFICATIONS, type Classification } from '#core/stamp/schema.ts'
import { pathReadings } from '../http/request-target.ts'

type RouteEntry = {
  readonly template: string
  readonly methods?: readonly string[]
  readonly classification?: Classification
  readonly regulations?: readonly string[]
  readonly regions?: readonly string[]
}

/** What the policy data says of a path. */
export type RouteFacts = {
  readonly template: string
  readonly classification: Classification | undefined
  readonly regulations: readonly string[] | undefined
  readonly regions: readonly string[] | undefined
  /** Different readings of the path match different routes: the strictest of each is taken, and no approval applies. */
  readonly ambiguous: boolean
}

/**
 * Route templates: `/customers/{id}`, `/reports/**`. `{name}` matches one segment, a last `**` any rest; case does not count. The most
 * specific template wins: a literal segment before a variable, before `**`; then the earlier one. Each reading of a path is
 * matched (`pathReadings`), so that no spelling of it slips past.
 */
export type RouteTable = { match(method: string, path: string): RouteFacts | null }

type Compiled = {
  facts: RouteFacts
  segments: string[]
  open: boolean
  methods: ReadonlySet<string> | null
  rank: string
}

export function compileRoutes(routes: readonly RouteEntry[]): RouteTable {
  const compiled = routes.map(compile).sort((a, b) => (a.rank < b.rank ? -1 : 1))
  // Most routes share few lengths: look only at those that can match.
  const closedByLength = Map.groupBy(
    compiled.filter(({ open }) => !open),
    ({ segments }) => segments.length,
  )
  const open = compiled.filter((candidate) => candidate.open)

  const matchSegments = (method: string, segments: readonly string[]): RouteFacts | null => {
    for (const candidate of closedByLength.get(segments.length) ?? []) {
      if (matches(candidate, method, segments)) return candidate.facts
    }
    for (const candidate of open) {
      if (candidate.segments.length <= segments.length && matches(candidate, method, segments)) return candidate.facts
    }
    return null
  }

  return {
    match(method, path) {
      if (compiled.length === 0) return null
      let found: RouteFacts | null = null
      for (const segments of pathReadings(path)) {
        const facts = matchSegments(method, segments)
        if (facts === null || facts === found) continue
        found = found === null ? facts : strictest(found, facts)
      }
      return found
    },
  }
}

function compile(route: RouteEntry, index: number): Compiled {
  const segments = route.template
    .split('/')
    .filter((segment) => segment !== '')
    .map((segment) => (isVariable(segment) ? segment : segment.toLowerCase()))
  const open = segments.at(-1) === '**'
  if (open) segments.pop()
  const rank = segments.map((segment) => (isVariable(segment) ? '1' : '0')).join('') + (open ? '2' : '')
  const { template, classification, regulations, regions } = route
  return {
    facts: { template, classification, regulations, regions, ambiguous: false },
    segments,
    open,
    methods: route.methods === undefined ? null : new Set(route.methods),
    rank: `${rank}:${String(index).padStart(6, '0')}`,
  }
}

function strictest(a: RouteFacts, b: RouteFacts): RouteFacts {
  const classification = CLASSIFICATIONS.findLast((each) => each === a.classification || each === b.classification)
  const regulations = [...new Set([...(a.regulations ?? []), ...(b.regulations ?? [])])]
  const regions =
    a.regions === undefined
      ? b.regions
      : b.regions === undefined
        ? a.regions
        : a.regions.filter((region) => b.regions?.includes(region))
  return {
    template: a.template,
    classification,
    regulations: regulations.length === 0 ? undefined : regulations,
    regions,
    ambiguous: true,
  }
}

function isVariable(segment: string): boolean {
  return segment.startsWith('{') && segment.endsWith('}')
}

function matches(candidate: Compiled, method: string, segments: readonly string[]): boolean {
  if (candidate.methods !== null && !candidate.methods.has(method === 'HEAD' ? 'GET' : method)) return false
  return candidate.segments.every((segment, i) => isVariable(segment) || segment === segments[i])
}
