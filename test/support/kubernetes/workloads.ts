import { parseAllDocuments } from 'yaml'

/** A pod as the controller of a workload would make it, with a name of its own. */
export type WorkloadPod = { readonly name: string; readonly pod: { metadata: object; spec: Record<string, unknown> } }

// What people write is of no type until somebody has read it.
// oxlint-disable-next-line typescript/no-explicit-any
type Loose = any

const TEMPLATES: Readonly<Record<string, (object: Loose) => Loose>> = {
  Pod: (object) => object,
  CronJob: ({ spec }) => spec?.jobTemplate?.spec?.template,
  ...Object.fromEntries(
    ['Deployment', 'StatefulSet', 'DaemonSet', 'Job', 'ReplicaSet', 'ReplicationController'].map((kind) => [
      kind,
      ({ spec }: Loose): Loose => spec?.template,
    ]),
  ),
}

/**
 * The pods of all workloads in a manifest, by `Kind/name`. What a cluster would have to have first is left out (priority and runtime
 * classes); claims become volumes, before others of their name, as the StatefulSet controller does it.
 * Read as Kubernetes reads YAML: `defaultMode: 0400` is octal.
 */
export function podsOf(manifest: string): WorkloadPod[] {
  return parseAllDocuments(manifest, { version: '1.1' })
    .map((document): Loose => document.toJS())
    .flatMap((object) => (object?.kind === 'List' ? object.items : [object]))
    .flatMap((object) => {
      const template = TEMPLATES[object?.kind]?.(object)
      if (!(template?.spec?.containers?.length > 0)) return []
      const { priorityClassName: _, runtimeClassName: __, ...spec } = template.spec
      const { labels, annotations } = template.metadata ?? {}
      const claims = (object.spec?.volumeClaimTemplates ?? []).map(({ metadata }: Loose) => ({
        name: metadata.name,
        persistentVolumeClaim: { claimName: `${metadata.name}-0` },
      }))
      const claimed = new Set(claims.map(({ name }: Loose) => name))
      const volumes = [...(spec.volumes ?? []).filter(({ name }: Loose) => !claimed.has(name)), ...claims]
      return [
        {
          name: `${object.kind}/${object.metadata.name}`,
          pod: {
            metadata: {
              name: 'real',
              ...(labels && { labels }),
              ...(annotations && { annotations }),
            },
            spec: { ...spec, ...(volumes.length === 0 ? {} : { volumes }) },
          },
        },
      ]
    })
}
