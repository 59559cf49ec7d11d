import { gunzipSync } from 'node:zlib'
import { parse } from 'yaml'
import { checkNamespaceMap, EMPTY_NAMESPACE_MAP, type NamespaceMap } from '#core/identity/namespace-map.ts'
import { SIDECAR } from '#core/injection/names.ts'
import { readPod } from '#core/injection/pod.ts'
import { parseInjectionTemplate, type InjectionTemplate } from '#core/injection/settings.ts'
import type { StatusCondition } from '#core/rule/status.ts'
import { ApiRefusal, type ClusterApi } from './api.ts'
import type { ObservedPod, ObservedRule, ObservedService, ObservedWebhook, ProxyReport, Snapshot } from './snapshot.ts'

type Json = Record<string, unknown>
type TimedReport = ProxyReport & { readonly reportedMs: number }
type Meta = {
  readonly name: string
  readonly namespace?: string
  readonly uid?: string
  readonly generation?: number
  readonly deletionTimestamp?: string
  readonly labels?: Record<string, string>
  readonly annotations?: Record<string, string>
  readonly ownerReferences?: { readonly kind: string; readonly name: string; readonly controller?: boolean }[]
}
type GatherOptions = {
  readonly api: ClusterApi
  readonly operatorNamespace: string
  /** One namespace, or all. */
  readonly namespace: string | undefined
  readonly now: Date
}

/** What the operator's bundle store calls its parts (docs/operator.md). */
const BUNDLE_OBJECT = 'signet.dev/bundle-object'
const BUNDLE_NAMESPACE = 'signet.dev/bundle-namespace'
const BUNDLE_REVISION = 'signet.dev/revision'
const STATUS_CONTENT = 'proxies.json.gz'
const MAX_STATUS_BYTES = 32 << 20
/** Never a stand-in for one that a real certificate could be: it only fills the place that the hash is made with. */
const PLACEHOLDER_CA = '-----BEGIN CERTIFICATE-----'
const RULE_KINDS = [
  ['ComplianceRule', 'compliancerules'],
  ['RetentionPolicy', 'retentionpolicies'],
] as const
const WEBHOOK_KINDS = [
  ['MutatingWebhookConfiguration', 'mutatingwebhookconfigurations'],
  ['ValidatingWebhookConfiguration', 'validatingwebhookconfigurations'],
] as const
const SERVING = ['signet-operator-tls', 'signet-ledger-tls']

const meta = (object: Json): Meta => object['metadata'] as Meta
const dataOf = (object: Json | null): Record<string, string> =>
  (object?.['data'] as Record<string, string> | undefined) ?? {}

/** Looks at a cluster. What may not be read is told in `unchecked`, and the rest looked at all the same. @throws UsageError */
export async function gather({ api, operatorNamespace, namespace, now }: GatherOptions): Promise<Snapshot> {
  const unchecked: string[] = []
  const attempt = async <T>(what: string, work: () => Promise<T>, otherwise: T): Promise<T> => {
    try {
      return await work()
    } catch (error) {
      if (!(error instanceof ApiRefusal) && !(error instanceof Unreadable)) throw error
      unchecked.push(`${what}: ${error.message}`)
      return otherwise
    }
  }
  const within = (kind: string): string => (namespace === undefined ? kind : `namespaces/${namespace}/${kind}`)
  const own = (kind: string, name = ''): string =>
    `/api/v1/namespaces/${operatorNamespace}/${kind}${name === '' ? '' : `/${name}`}`
  const configMap = (name: string): Promise<Json | null> => api.get(own('configmaps', name))

  const namespaces = new Map<string, Record<string, string>>()
  await attempt(
    'namespaces',
    () => api.list('/api/v1/namespaces', (item) => namespaces.set(meta(item).name, meta(item).labels ?? {})),
    false,
  )
  const pods: ObservedPod[] = []
  const takePod = (item: Json): void => void pods.push(...observedPod(item, unchecked))
  await attempt('pods', () => api.list(`/api/v1/${within('pods')}`, takePod), false)
  const services: ObservedService[] = []
  await attempt(
    'services',
    () => api.list(`/api/v1/${within('services')}`, (item) => services.push(observedService(item))),
    false,
  )

  const rules: ObservedRule[] = []
  for (const [kind, plural] of RULE_KINDS) {
    const path = `/apis/signet.dev/v1alpha1/${within(plural)}`
    const known = await attempt(plural, () => api.list(path, (item) => rules.push(observedRule(kind, item))), true)
    if (!known) unchecked.push(`${plural}: the cluster does not know them; install charts/signet-crds`)
  }
  const webhooks = await attempt<ObservedWebhook[] | null>(
    'the webhook configurations «signet»',
    () => readWebhooks(api),
    null,
  )
  const trust = await attempt('ConfigMap signet-trust', async () => dataOf(await configMap('signet-trust')), {})
  const template = await attempt(
    'ConfigMap signet-settings',
    async () => readTemplate(dataOf(await configMap('signet-settings'))['injection.json']),
    null,
  )
  const namespaceMap = await attempt(
    'ConfigMap signet-identity',
    async () => readMap(dataOf(await configMap('signet-identity'))),
    EMPTY_NAMESPACE_MAP,
  )
  const certificates: { name: string; pem: string }[] = []
  for (const name of SERVING) {
    const secret = await attempt(`Secret ${name}`, () => api.get(own('secrets', name)), null)
    // The certificate alone is looked at; the key beside it is left where it is.
    const pem = dataOf(secret)['tls.crt']
    if (pem !== undefined)
      certificates.push({ name: `secret/${name}`, pem: Buffer.from(pem, 'base64').toString('utf8') })
  }
  const bundles = new Map<string, string>()
  const reports = new Map<string, TimedReport>()
  const takeObject = (item: Json): void => takeBundleObject(item, bundles, reports)
  const path = `${own('configmaps')}?labelSelector=${encodeURIComponent(`${BUNDLE_OBJECT} in (index,status)`)}`
  const seen = await attempt('bundles (ConfigMaps of the operator)', () => api.list(path, takeObject), false)
  const current = trust['ca.crt']
  return {
    now,
    operatorNamespace,
    namespaces,
    pods,
    services,
    rules,
    webhooks,
    trust: current === undefined ? null : { current, previous: trust['previous.crt'] ?? null },
    certificates,
    template,
    namespaceMap,
    bundles: seen ? bundles : null,
    reports,
    unchecked,
  }
}

/** Something is there and not in form: somebody edited it. */
class Unreadable extends Error {}

function observedPod(item: Json, unchecked: string[]): ObservedPod[] {
  const { name, namespace = '', uid = '', deletionTimestamp, ownerReferences } = meta(item)
  const status = (item['status'] ?? {}) as {
    phase?: string
    initContainerStatuses?: { name: string; ready?: boolean; started?: boolean }[]
  }
  const phase = status.phase ?? 'Pending'
  if (deletionTimestamp !== undefined || phase === 'Succeeded' || phase === 'Failed') return []
  const owner = ownerReferences?.find(({ controller }) => controller === true)
  const sidecar = status.initContainerStatuses?.find((one) => one.name === SIDECAR)
  try {
    return [
      {
        name,
        namespace,
        uid,
        pod: readPod(item),
        owner: owner === undefined ? null : { kind: owner.kind, name: owner.name },
        phase,
        sidecarReady: sidecar === undefined ? null : sidecar.ready === true,
      },
    ]
  } catch (error) {
    unchecked.push(`pod ${namespace}/${name}: ${error instanceof Error ? error.message : String(error)}`)
    return []
  }
}

function observedService(item: Json): ObservedService {
  const { name, namespace = '' } = meta(item)
  const spec = (item['spec'] ?? {}) as {
    selector?: Record<string, string>
    ports?: { port: number; targetPort?: number | string; protocol?: string }[]
  }
  const tcp = (spec.ports ?? []).filter(({ protocol }) => protocol === undefined || protocol === 'TCP')
  return {
    name,
    namespace,
    selector: spec.selector ?? {},
    ports: tcp.map(({ port, targetPort }) => ({ port, targetPort: targetPort ?? port })),
  }
}

function observedRule(kind: string, item: Json): ObservedRule {
  const { name, namespace = '', generation = 0 } = meta(item)
  const status = (item['status'] ?? {}) as { observedGeneration?: number; conditions?: StatusCondition[] }
  return {
    kind,
    name,
    namespace,
    generation,
    observedGeneration: status.observedGeneration ?? 0,
    conditions: status.conditions ?? [],
  }
}

async function readWebhooks(api: ClusterApi): Promise<ObservedWebhook[]> {
  const found: ObservedWebhook[] = []
  for (const [kind, plural] of WEBHOOK_KINDS) {
    const object = await api.get(`/apis/admissionregistration.k8s.io/v1/${plural}/signet`)
    const webhooks = (object?.['webhooks'] ?? []) as { name: string; clientConfig?: { caBundle?: string } }[]
    found.push(...webhooks.map(({ name, clientConfig }) => ({ kind, name, caBundle: clientConfig?.caBundle ?? '' })))
  }
  return found
}

function readTemplate(text: string | undefined): Snapshot['template'] {
  if (text === undefined) return null
  try {
    const whole: InjectionTemplate = parseInjectionTemplate({
      ...(JSON.parse(text) as object),
      trustCa: PLACEHOLDER_CA,
    })
    const { trustCa: _ca, ...template } = whole
    return template
  } catch (error) {
    throw new Unreadable(error instanceof Error ? error.message : String(error))
  }
}

function readMap(data: Record<string, string>): NamespaceMap {
  const text = data['namespaces.json']
  if (text === undefined) return EMPTY_NAMESPACE_MAP
  try {
    return checkNamespaceMap(parse(text), 'ConfigMap signet-identity')
  } catch (error) {
    throw new Unreadable(error instanceof Error ? error.message : String(error))
  }
}

function takeBundleObject(item: Json, bundles: Map<string, string>, reports: Map<string, TimedReport>): void {
  const { labels, annotations } = meta(item)
  const namespace = labels?.[BUNDLE_NAMESPACE]
  const revision = annotations?.[BUNDLE_REVISION]
  if (namespace !== undefined && revision !== undefined) bundles.set(namespace, revision)
  const content = (item['binaryData'] as Record<string, string> | undefined)?.[STATUS_CONTENT]
  if (content === undefined) return
  const rows = JSON.parse(
    gunzipSync(Buffer.from(content, 'base64'), { maxOutputLength: MAX_STATUS_BYTES }).toString('utf8'),
  ) as (TimedReport & { uid: string })[]
  // Several replicas, each with an object of its own, may have heard of one proxy: the latest word counts.
  for (const { uid, revision, code, message, reportedMs } of rows)
    if (reportedMs >= (reports.get(uid)?.reportedMs ?? -Infinity))
      reports.set(uid, { revision, code, message, reportedMs })
}
