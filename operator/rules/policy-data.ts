import type { JsonObject, JsonValue } from '#core/json/value.ts'
import { namespaceSettings, type NamespaceMap } from '#core/identity/namespace-map.ts'
import { isPolicyData, type PolicyDataSpec } from '#core/rule/policy-data.ts'
import type { Change } from '#operator/kubernetes/informer.ts'
import type { ObjectMeta } from '#operator/kubernetes/object.ts'

/** What the operator keeps of a PolicyData. */
export type PolicyDataView = { readonly metadata: ObjectMeta; readonly spec: PolicyDataSpec }

/** Null for what is not of the form: where the CRD was changed, or is an older one, anything may be stored. */
export function keepPolicyData({ metadata, spec }: PolicyDataView): PolicyDataView | null {
  const { name, namespace, resourceVersion } = metadata
  if (!isPolicyData(spec)) return null
  return {
    metadata: {
      name,
      ...(namespace === undefined ? {} : { namespace }),
      ...(resourceVersion === undefined ? {} : { resourceVersion }),
    },
    spec,
  }
}

export type PolicyDataIndex = {
  /** Takes a change of the informer; tells whose data changed. */
  apply(change: Change<PolicyDataView>): ReadonlySet<string>
  /** All that objects hold for the tenant together, whatever the order in which they came, and the same object until that changes; null for nothing. */
  of(tenant: string): JsonObject | null
}

/** What a proxy takes of one member (docs/reference/policy-data.md): more would make the whole bundle invalid. */
const MAX_ENTRIES = 10_000

export function createPolicyDataIndex(): PolicyDataIndex {
  const byTenant = new Map<string, Map<string, PolicyDataSpec>>()
  /** Asked for more often than changed: by each namespace, each half minute. */
  const merged = new Map<string, JsonObject>()
  return {
    apply({ key, before, after }) {
      const tenants = new Set([before, after].flatMap((view) => (view === undefined ? [] : [view.spec.tenant])))
      for (const tenant of tenants) {
        const objects = byTenant.get(tenant) ?? new Map<string, PolicyDataSpec>()
        if (after?.spec.tenant === tenant) objects.set(key, after.spec)
        else objects.delete(key)
        merged.delete(tenant)
        if (objects.size === 0) byTenant.delete(tenant)
        else byTenant.set(tenant, objects)
      }
      return tenants
    },
    of(tenant) {
      const objects = byTenant.get(tenant)
      if (objects === undefined) return null
      const found = merged.get(tenant) ?? merge(objects)
      merged.set(tenant, found)
      return found
    },
  }
}

function merge(objects: ReadonlyMap<string, PolicyDataSpec>): JsonObject {
  const members = new Map<string, JsonValue[]>()
  for (const key of [...objects.keys()].sort()) {
    const { tenant: _, ...lists } = objects.get(key)!
    for (const [name, entries] of Object.entries(lists)) {
      const list = members.get(name) ?? []
      list.push(...entries.slice(0, MAX_ENTRIES - list.length))
      members.set(name, list)
    }
  }
  return Object.fromEntries([...members].sort(([a], [b]) => (a < b ? -1 : 1)))
}

/** `data.policy` of a namespace's bundle: `{tenants: {TENANT: …}}` of the tenants that its pods may be; `{}` where none has any. */
export function namespacePolicy(map: NamespaceMap, index: PolicyDataIndex, namespace: string): JsonObject {
  const entries = tenantsOf(map, namespace).flatMap((tenant) => {
    const data = index.of(tenant)
    return data === null ? [] : [[tenant, data] as const]
  })
  return entries.length === 0 ? {} : { tenants: Object.fromEntries(entries) }
}

/** Tenants that pods of the namespace may be; none where the map forbids its name. */
export function tenantsOf(map: NamespaceMap, namespace: string): readonly string[] {
  try {
    return namespaceSettings(map, namespace).tenants
  } catch {
    return []
  }
}
