import type { ProxyStatus } from './status-report.ts'

export type StatusRegistryOptions = {
  /** Proxies held at most; past it new ones are not taken. */
  readonly maxProxies: number
  /** A proxy that has said nothing for so long is gone; reports come every 30 s. */
  readonly expiryMs: number
  readonly now: () => number
}

/** What became of a report: `changed` where it says something new. */
export type Recorded = 'changed' | 'heartbeat' | 'full'

/** What proxies said last, by pod. Bounded. */
export type StatusRegistry = {
  record(status: ProxyStatus): Recorded
  /** Drops those that are silent; resolves to the namespaces that lost one. */
  sweep(): ReadonlySet<string>
  all(): IterableIterator<ProxyStatus>
  of(namespace: string): readonly ProxyStatus[]
  readonly size: number
}

export function createStatusRegistry({ maxProxies, expiryMs, now }: StatusRegistryOptions): StatusRegistry {
  const byUid = new Map<string, ProxyStatus>()
  const byNamespace = new Map<string, Set<string>>()

  function forget(status: ProxyStatus): void {
    byUid.delete(status.uid)
    const uids = byNamespace.get(status.namespace)
    uids?.delete(status.uid)
    if (uids?.size === 0) byNamespace.delete(status.namespace)
  }

  return {
    record(status) {
      const known = byUid.get(status.uid)
      // What another replica heard may be older than what is known.
      if (known !== undefined && known.reportedMs > status.reportedMs) return 'heartbeat'
      if (known === undefined && byUid.size >= maxProxies) return 'full'
      byUid.set(status.uid, status)
      const uids = byNamespace.get(status.namespace) ?? new Set()
      byNamespace.set(status.namespace, uids.add(status.uid))
      const isSame =
        known !== undefined &&
        known.revision === status.revision &&
        known.code === status.code &&
        known.message === status.message
      return isSame ? 'heartbeat' : 'changed'
    },
    sweep() {
      const namespaces = new Set<string>()
      const limit = now() - expiryMs
      for (const status of byUid.values()) {
        if (status.reportedMs >= limit) continue
        forget(status)
        namespaces.add(status.namespace)
      }
      return namespaces
    },
    all: () => byUid.values(),
    of: (namespace) => [...(byNamespace.get(namespace) ?? [])].map((uid) => byUid.get(uid)!),
    get size() {
      return byUid.size
    },
  }
}
