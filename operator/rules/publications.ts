import type { Publication } from '#operator/bundles/publisher.ts'
import type { Scope } from './gather.ts'

/** Which compilation of each scope a bundle was made of: a count that grows with each compilation of the process. */
export type Serials = { readonly root: number; readonly own: number }

export type Carrying =
  | { readonly state: 'carried'; readonly sequence: number; readonly revision: string }
  | { readonly state: 'no' }

type Entry = { readonly sequence: number; readonly revision: string; readonly serials: Serials }
type NamespaceState = {
  /** Oldest first; each has something newer than the one before. */
  readonly entries: Entry[]
  readonly held: boolean
  readonly problems: Publication['problems']
}

/** Proxies that are further behind count as being at the oldest that is kept. */
const MAX_ENTRIES = 50

/**
 * What was published for each namespace, by what it was made of. A rule that did not change is in every later revision, so a proxy
 * has it from the first one on, and others' changes do not make it undistributed again.
 */
export type Publications = {
  record(namespace: string, publication: Publication, serials: Serials): void
  /** The first revision of the namespace with that compilation of the scope, or a later one. */
  carrying(namespace: string, scope: Scope, serial: number): Carrying
  /** What the last publication could not do; empty where all went well. */
  problems(namespace: string): Publication['problems']
  /** A rollback is in force there. */
  held(namespace: string): boolean
  has(namespace: string): boolean
  forget(namespace: string): void
}

export function createPublications(): Publications {
  const byNamespace = new Map<string, NamespaceState>()
  return {
    record(namespace, publication, serials) {
      const entries = byNamespace.get(namespace)?.entries ?? []
      const held = publication.outcome === 'held' || publication.outcome === 'rolled-back'
      const { sequence, revision, problems } = publication
      const last = entries.at(-1)
      // A part that was refused is in force as it was before.
      const isRefused = (part: 'root' | 'namespace'): boolean =>
        problems.some((problem) => problem.part === part || problem.part === 'bundle')
      const root = isRefused('root') ? (last?.serials.root ?? 0) : serials.root
      const own = isRefused('namespace') ? (last?.serials.own ?? 0) : serials.own
      if (!held && sequence !== null && revision !== null && publication.outcome !== 'refused') {
        // Nothing new in it, or the same revision made of newer compilations that say the same: the older entry serves both.
        if (last?.sequence === sequence) entries[entries.length - 1] = { ...last, serials: { root, own } }
        else if (last === undefined || last.serials.root < root || last.serials.own < own) {
          entries.push({ sequence, revision, serials: { root, own } })
        }
      }
      if (entries.length > MAX_ENTRIES) entries.shift()
      byNamespace.set(namespace, { entries, held, problems })
    },
    carrying(namespace, scope, serial) {
      const entries = byNamespace.get(namespace)?.entries ?? []
      const found = entries.find(({ serials }) => (scope === 'root' ? serials.root : serials.own) >= serial)
      if (found === undefined) return { state: 'no' }
      return { state: 'carried', sequence: found.sequence, revision: found.revision }
    },
    problems: (namespace) => byNamespace.get(namespace)?.problems ?? [],
    held: (namespace) => byNamespace.get(namespace)?.held ?? false,
    has: (namespace) => byNamespace.has(namespace),
    forget: (namespace) => void byNamespace.delete(namespace),
  }
}
