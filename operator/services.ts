import type { ServiceView } from '#core/injection/services.ts'
import type { Change } from './kubernetes/informer.ts'
import type { ObjectMeta } from './kubernetes/object.ts'

export type ServiceObject = {
  readonly metadata: ObjectMeta
  readonly spec?: {
    readonly selector?: Readonly<Record<string, string>>
    readonly ports?: readonly { readonly port: number; readonly targetPort?: number | string }[]
  }
}

/** Of a Service: which pods it leads to, by which ports. Those without a selector are of no interest. */
export function keepService({ metadata, spec }: ServiceObject): ServiceObject | null {
  const { name, namespace, resourceVersion } = metadata
  if (spec?.selector === undefined || namespace === undefined) return null
  return {
    metadata: { name, namespace, ...(resourceVersion === undefined ? {} : { resourceVersion }) },
    spec: {
      selector: spec.selector,
      ports: (spec.ports ?? []).map(({ port, targetPort }) => ({
        port,
        ...(targetPort === undefined ? {} : { targetPort }),
      })),
    },
  }
}

export type ServiceIndex = {
  apply(change: Change<ServiceObject>): void
  of(namespace: string): Iterable<ServiceView>
}

/** Services by namespace. */
export function createServiceIndex(): ServiceIndex {
  const byNamespace = new Map<string, Map<string, ServiceView>>()
  return {
    apply({ before, after }) {
      const { name, namespace } = (after ?? before)?.metadata ?? {}
      if (name === undefined || namespace === undefined) return
      const services = byNamespace.get(namespace) ?? new Map<string, ServiceView>()
      if (after === undefined) services.delete(name)
      else services.set(name, toView(after))
      if (services.size === 0) byNamespace.delete(namespace)
      else byNamespace.set(namespace, services)
    },
    of: (namespace) => byNamespace.get(namespace)?.values() ?? [],
  }
}

function toView({ metadata, spec }: ServiceObject): ServiceView {
  return {
    name: metadata.name,
    selector: spec?.selector ?? {},
    // Without a targetPort it is the port itself.
    ports: (spec?.ports ?? []).map(({ port, targetPort }) => ({ port, targetPort: targetPort ?? port })),
  }
}
