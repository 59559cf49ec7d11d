import { isDeepStrictEqual } from 'node:util'
import { SignetError } from '#core/error/signet-error.ts'
import type { NamespaceMap } from '#core/identity/namespace-map.ts'
import type { Eligibility } from '#core/injection/eligibility.ts'
import { injectPod } from '#core/injection/inject.ts'
import { LABELS } from '#core/injection/names.ts'
import { readPod } from '#core/injection/pod.ts'
import { namespaceFacts, type InjectionTemplate } from '#core/injection/settings.ts'

/** What became of one pod or pod template. `what`: `Deployment payments/reports`. */
export type NamedInjection = {
  readonly what: string
  readonly verdict: Eligibility['verdict']
  readonly changed: boolean
  readonly warnings: readonly string[]
}

export type ObjectSettings = {
  readonly template: InjectionTemplate
  readonly map: NamespaceMap
  /** Of objects that name none. */
  readonly namespace: string
  readonly required: boolean
}

/** Where a kind keeps its pod: the path from the object to what has `metadata` and `spec` of a pod. */
const POD_PATHS: Readonly<Record<string, readonly string[]>> = {
  Pod: [],
  PodTemplate: ['template'],
  Deployment: ['spec', 'template'],
  StatefulSet: ['spec', 'template'],
  DaemonSet: ['spec', 'template'],
  ReplicaSet: ['spec', 'template'],
  ReplicationController: ['spec', 'template'],
  Job: ['spec', 'template'],
  CronJob: ['spec', 'jobTemplate', 'spec', 'template'],
}
/** API groups of these kinds: a `Job` of somebody else's is not ours to read. */
const GROUPS = new Set(['', 'apps', 'batch'])

type JsonObject = Record<string, unknown>

/**
 * Injects an object of Kubernetes, or each one of a List. Whoever runs this asks for it: pods are injected unless they decline.
 * @throws SignetError POD_INVALID
 */
export function injectObject(
  value: unknown,
  settings: ObjectSettings,
): { object: unknown; injections: NamedInjection[] } {
  if (!isObject(value)) return { object: value, injections: [] }
  if (typeof value['kind'] === 'string' && value['kind'].endsWith('List') && Array.isArray(value['items'])) {
    const items = value['items'].map((item: unknown) => injectObject(item, settings))
    return {
      object: { ...value, items: items.map(({ object }) => object) },
      injections: items.flatMap(({ injections }) => injections),
    }
  }
  const path = podPath(value)
  if (path === null) return { object: value, injections: [] }
  const metadata = isObject(value['metadata']) ? value['metadata'] : {}
  const namespace = typeof metadata['namespace'] === 'string' ? metadata['namespace'] : settings.namespace
  const name = [metadata['name'], metadata['generateName']].find((each) => typeof each === 'string') ?? ''
  const what = `${String(value['kind'])} ${namespace}/${name}`
  const given = path.reduce<unknown>((node, name) => (isObject(node) ? node[name] : undefined), value)
  try {
    const facts = namespaceFacts(settings.map, {
      name: namespace,
      labels: settings.required ? { [LABELS.required]: 'true' } : { [LABELS.inject]: 'enabled' },
    })
    const pod = readPod(given)
    const injected = injectPod(pod, { template: settings.template, namespace: facts })
    const changed = !isDeepStrictEqual(injected.pod, pod)
    return {
      object: changed ? replaced(value, path, injected.pod) : value,
      injections: [{ what, verdict: injected.eligibility.verdict, changed, warnings: injected.warnings }],
    }
  } catch (error) {
    if (error instanceof SignetError) throw new SignetError(error.code, `${what}: ${error.message}`, { cause: error })
    throw error
  }
}

function podPath({ kind, apiVersion }: JsonObject): readonly string[] | null {
  if (typeof kind !== 'string' || typeof apiVersion !== 'string' || !Object.hasOwn(POD_PATHS, kind)) return null
  const slash = apiVersion.indexOf('/')
  const group = slash === -1 ? '' : apiVersion.slice(0, slash)
  return GROUPS.has(group) ? (POD_PATHS[kind] ?? null) : null
}

function replaced(object: JsonObject, [name, ...rest]: readonly string[], value: object): JsonObject {
  if (name === undefined) return value as JsonObject
  const member = object[name]
  return { ...object, [name]: rest.length === 0 ? value : replaced(isObject(member) ? member : {}, rest, value) }
}

function isObject(value: unknown): value is JsonObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}
