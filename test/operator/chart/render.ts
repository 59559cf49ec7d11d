import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { parseAllDocuments, stringify } from 'yaml'
import { helm } from '#tools/kubernetes/helm.ts'

const ROOT = path.resolve(import.meta.dirname, '../../..')
export const NAMESPACE = 'signet-system'

export type Values = { readonly [key: string]: unknown }
export type Rendered = {
  readonly kind: string
  readonly apiVersion: string
  readonly metadata: { readonly name: string; readonly namespace?: string; readonly labels?: Record<string, string> }
  readonly [key: string]: unknown
}

/** `helm template` of a chart of this tree. */
export async function render(values: Values = {}, chart = 'signet'): Promise<string> {
  const { code, stdout, stderr } = await template(values, chart)
  if (code !== 0 || stderr !== '') throw new Error(`helm template ended with ${code}: ${stderr}`)
  return stdout
}

/** What helm says to values that it should not take. */
export async function refusal(values: Values): Promise<string> {
  const { code, stderr } = await template(values, 'signet')
  if (code === 0) throw new Error('helm took the values')
  return stderr
}

export function objects(text: string): Rendered[] {
  return parseAllDocuments(text).flatMap((document) => {
    const object = document.toJS() as Rendered | null
    if (document.errors.length > 0) throw document.errors[0]
    return object === null ? [] : [object]
  })
}

async function template(values: Values, chart: string): ReturnType<typeof helm> {
  const folder = await mkdtemp(path.join(tmpdir(), 'signet-chart-'))
  try {
    const file = path.join(folder, 'values.yaml')
    // Helm reads YAML 1.1, where a plain `off` is a boolean.
    await writeFile(file, stringify(values, { version: '1.1' }))
    const args = ['--namespace', NAMESPACE, '--kube-version', '1.33.0', '--values', file]
    return await helm(['template', 'signet', path.join(ROOT, 'charts', chart), ...args])
  } finally {
    await rm(folder, { recursive: true, force: true })
  }
}

export type Container = {
  readonly name: string
  readonly image: string
  readonly args?: string[]
  readonly env?: { readonly name: string; readonly value?: string; readonly valueFrom?: object }[]
  readonly resources?: { readonly requests?: object; readonly limits?: object }
  readonly securityContext?: object
  readonly volumeMounts?: { readonly name: string; readonly mountPath: string; readonly readOnly?: boolean }[]
}
export type PodTemplate = {
  readonly metadata: { readonly labels: Record<string, string>; readonly annotations?: Record<string, string> }
  readonly spec: {
    readonly containers: Container[]
    readonly initContainers?: Container[]
    readonly volumes?: { readonly name: string }[]
    readonly serviceAccountName?: string
    readonly automountServiceAccountToken?: boolean
  }
}

/** Pod templates of Deployments and StatefulSets, by name; with the volumes that claims would give. */
export function podTemplates(rendered: readonly Rendered[]): Map<string, PodTemplate> {
  const workloads = rendered.filter(({ kind }) => ['Deployment', 'StatefulSet', 'Job', 'DaemonSet'].includes(kind))
  return new Map(
    workloads.map(({ metadata, spec }) => {
      const { template, volumeClaimTemplates = [] } = spec as {
        template: PodTemplate
        volumeClaimTemplates?: Rendered[]
      }
      const claimed = volumeClaimTemplates.map((claim) => ({
        name: claim.metadata.name,
        persistentVolumeClaim: { claimName: claim.metadata.name },
      }))
      const volumes = [...(template.spec.volumes ?? []), ...claimed]
      return [metadata.name, { ...template, spec: { ...template.spec, volumes } }] as const
    }),
  )
}
