import { canonicalize } from '../canonical/jcs.ts'
import type { AppProbe } from './app-probe.ts'
import { capturedPort } from './capture.ts'
import type { Mesh } from './mesh.ts'
import {
  ADMIN_PORT,
  ADMIN_PORT_NAME,
  AUDIENCES,
  IDLE_PORT,
  MOUNT_PATHS,
  PROXY_PORT,
  PROXY_UID,
  REDIRECT,
  SIDECAR,
  VOLUMES,
} from './names.ts'
import type { Container } from './pod.ts'
import type { InjectionSettings, InjectionTemplate } from './settings.ts'
import type { Wishes } from './wishes.ts'

/*
 * Everything here is written out as the API server would complete it, defaults included, so that a pod that has been stored and
 * comes back is found to be what we would make.
 */

const DEFAULTS = {
  drainMs: 6_000,
  spoolMiB: 384,
  tokenSeconds: 3_600,
  requests: { cpu: '50m', memory: '128Mi' },
  limits: { memory: '512Mi' },
} as const

/** Answers held for inspection, of all requests together: they have to fit into the memory limit beside the process itself. */
const BUFFER_TOTAL_BYTES = 134_217_728
const DISCARD_PORT = 9
/** A margin over the proxy's two drains (requests, then the spool). */
const DRAIN_MARGIN_SECONDS = 3
const DEFAULT_GRACE_SECONDS = 30

const TERMINATION = { terminationMessagePath: '/dev/termination-log', terminationMessagePolicy: 'File' } as const

export type SidecarPlan = {
  readonly settings: InjectionSettings
  readonly wishes: Wishes
  readonly port: number | null
  readonly takenName: string | null
  readonly probes: Readonly<Record<string, AppProbe>>
  readonly mesh: Mesh | null
}

/** The grace period that leaves the application all of its own, and the proxy its two drains after it. */
export function gracePeriodSeconds(own: number | null, template: InjectionTemplate): number {
  return (
    (own ?? DEFAULT_GRACE_SECONDS) +
    Math.ceil((2 * (template.drainMs ?? DEFAULTS.drainMs)) / 1000) +
    DRAIN_MARGIN_SECONDS
  )
}

export function sidecarContainer(plan: SidecarPlan): Container {
  const { template } = plan.settings
  return {
    name: SIDECAR,
    image: template.images.proxy,
    imagePullPolicy: template.images.pullPolicy ?? 'IfNotPresent',
    restartPolicy: 'Always',
    ports: [
      capturedPort(plan.wishes.capture === 'named-port' ? plan.takenName : null),
      { name: ADMIN_PORT_NAME, containerPort: ADMIN_PORT, protocol: 'TCP' },
    ],
    env: environment(plan),
    resources: resourcesOf(template),
    // Says that the process runs, not that it can answer: a bundle server that is away stops no pod from starting.
    startupProbe: adminProbe('/livez', { periodSeconds: 1, failureThreshold: 120 }),
    livenessProbe: adminProbe('/livez', { periodSeconds: 10, failureThreshold: 6 }),
    readinessProbe: adminProbe('/readyz', { periodSeconds: 2, failureThreshold: 3 }),
    securityContext: {
      runAsUser: PROXY_UID,
      runAsGroup: PROXY_UID,
      runAsNonRoot: true,
      privileged: false,
      allowPrivilegeEscalation: false,
      readOnlyRootFilesystem: true,
      capabilities: { drop: ['ALL'] },
      seccompProfile: { type: 'RuntimeDefault' },
    },
    volumeMounts: [
      { name: VOLUMES.spool, mountPath: MOUNT_PATHS.spool },
      { name: VOLUMES.tokens, mountPath: MOUNT_PATHS.tokens, readOnly: true },
      { name: VOLUMES.podinfo, mountPath: MOUNT_PATHS.podinfo, readOnly: true },
    ],
    ...TERMINATION,
  } as Container
}

/** The API server takes a limit for the request too where there is none. */
function resourcesOf({ resources }: InjectionTemplate): object {
  const limits = resources?.limits ?? DEFAULTS.limits
  return { requests: { ...limits, ...(resources?.requests ?? DEFAULTS.requests) }, limits }
}

function adminProbe(path: string, timing: { periodSeconds: number; failureThreshold: number }): object {
  return {
    httpGet: { path, port: ADMIN_PORT, scheme: 'HTTP' },
    timeoutSeconds: 3,
    successThreshold: 1,
    ...timing,
  }
}

function environment(plan: SidecarPlan): object[] {
  const { template, namespace } = plan.settings
  const { wishes } = plan
  const host = template.listenHost ?? '0.0.0.0'
  const listening = `${host}:${PROXY_PORT}`
  const scope = `namespace/${namespace.name}`
  const values: Record<string, string | null> = {
    SIGNET_UPSTREAM: `http://127.0.0.1:${plan.port ?? DISCARD_PORT}`,
    SIGNET_EXTERNAL_LISTEN: namespace.channel === 'external' ? listening : `127.0.0.1:${IDLE_PORT}`,
    SIGNET_INTERNAL_LISTEN: namespace.channel === 'internal' ? listening : null,
    SIGNET_ADMIN_LISTEN: `${host}:${ADMIN_PORT}`,
    SIGNET_TENANT: wishes.tenant,
    SIGNET_PRODUCER_ID: wishes.producerId,
    SIGNET_NAMESPACE: namespace.name,
    SIGNET_REGION: namespace.region,
    SIGNET_MODE: wishes.mode,
    SIGNET_LEDGER_URL: template.ledgerUrl,
    SIGNET_LEDGER_TOKEN_FILE: `${MOUNT_PATHS.tokens}/ledger`,
    SIGNET_TRUST_CA: template.trustCa,
    SIGNET_BUNDLE: `${template.bundlesUrl}/v1/bundles/${scope}`,
    SIGNET_BUNDLE_SCOPE: scope,
    SIGNET_BUNDLE_TOKEN_FILE: `${MOUNT_PATHS.tokens}/bundles`,
    SIGNET_BUNDLE_TRUST: `${template.bundlesUrl}/v1/bundle-trust`,
    SIGNET_BUNDLE_STATUS_URL: `${template.bundlesUrl}/v1/status/${scope}`,
    SIGNET_WORKLOAD_LABELS: `${MOUNT_PATHS.podinfo}/labels`,
    SIGNET_SPOOL_DIR: MOUNT_PATHS.spool,
    SIGNET_SPOOL_MAX_BYTES: String((template.spoolMiB ?? DEFAULTS.spoolMiB) * 1_048_576),
    SIGNET_BUFFER_TOTAL_BYTES: String(BUFFER_TOTAL_BYTES),
    SIGNET_DRAIN_MS: String(template.drainMs ?? DEFAULTS.drainMs),
    SIGNET_PROBES: Object.keys(plan.probes).length === 0 ? null : canonicalize(plan.probes),
    ...template.env,
  }
  return [
    fromField('SIGNET_POD_NAME', 'metadata.name'),
    fromField('SIGNET_POD_UID', 'metadata.uid'),
    fromField('K8S_NODE_NAME', 'spec.nodeName'),
    ...Object.entries(values)
      .filter((entry): entry is [string, string] => entry[1] !== null)
      // The kubelet expands $(NAME) in values, and $$ is a dollar sign: what is meant literally is written so.
      .map(([name, value]) => ({ name, value: value.replaceAll('$', '$$$$') })),
    { name: 'OTEL_RESOURCE_ATTRIBUTES', value: resourceAttributes(plan) },
  ]
}

/** https://opentelemetry.io/docs/specs/semconv/resource/k8s/. What the pod cannot know yet is filled in by the kubelet. */
function resourceAttributes({ settings, wishes }: SidecarPlan): string {
  return [
    `k8s.namespace.name=${settings.namespace.name}`,
    'k8s.pod.name=$(SIGNET_POD_NAME)',
    'k8s.pod.uid=$(SIGNET_POD_UID)',
    'k8s.node.name=$(K8S_NODE_NAME)',
    `k8s.container.name=${SIDECAR}`,
    `service.namespace=${settings.namespace.name}`,
    `signet.producer_id=${encodeURIComponent(wishes.producerId)}`,
  ].join(',')
}

function fromField(name: string, fieldPath: string): object {
  return { name, valueFrom: { fieldRef: { apiVersion: 'v1', fieldPath } } }
}

/** Sets the pod's packet filter and leaves. Root, since a capability reaches no other user (KEP-2763 is not there); it has that one. */
export function redirectContainer(plan: SidecarPlan): Container {
  const { template, namespace } = plan.settings
  const env: { name: string; value: string }[] = [
    { name: 'SIGNET_REDIRECT_TO', value: String(PROXY_PORT) },
    { name: 'SIGNET_REDIRECT_ADMIN', value: String(ADMIN_PORT) },
  ]
  if (plan.port !== null) env.unshift({ name: 'SIGNET_REDIRECT_PORT', value: String(plan.port) })
  const passthrough = namespace.passthroughPorts.filter((port) => port !== plan.port)
  if (passthrough.length > 0) env.push({ name: 'SIGNET_REDIRECT_PASSTHROUGH', value: passthrough.join(',') })
  if (template.listenHost === '[::]') env.push({ name: 'SIGNET_REDIRECT_LISTEN', value: template.listenHost })
  if (plan.mesh !== null) env.push({ name: 'SIGNET_REDIRECT_MESH', value: plan.mesh.name })
  return {
    name: REDIRECT,
    image: template.images.redirect,
    imagePullPolicy: template.images.pullPolicy ?? 'IfNotPresent',
    env,
    resources: { requests: { cpu: '10m', memory: '64Mi' }, limits: { memory: '128Mi' } },
    securityContext: {
      runAsUser: 0,
      runAsGroup: 0,
      runAsNonRoot: false,
      privileged: false,
      allowPrivilegeEscalation: false,
      readOnlyRootFilesystem: true,
      capabilities: { drop: ['ALL'], add: ['NET_ADMIN'] },
      seccompProfile: { type: 'RuntimeDefault' },
    },
    ...TERMINATION,
  } as Container
}

export function sidecarVolumes({ template }: InjectionSettings): { readonly name: string }[] {
  const expirationSeconds = template.tokenSeconds ?? DEFAULTS.tokenSeconds
  const volumes = [
    // Past the limit the kubelet evicts the pod: the spool stops taking events well before.
    { name: VOLUMES.spool, emptyDir: { sizeLimit: `${Math.ceil((template.spoolMiB ?? DEFAULTS.spoolMiB) * 1.25)}Mi` } },
    {
      name: VOLUMES.tokens,
      projected: {
        defaultMode: 420,
        sources: [
          { serviceAccountToken: { audience: AUDIENCES.ledger, expirationSeconds, path: 'ledger' } },
          { serviceAccountToken: { audience: AUDIENCES.bundles, expirationSeconds, path: 'bundles' } },
        ],
      },
    },
    {
      name: VOLUMES.podinfo,
      downwardAPI: {
        defaultMode: 420,
        items: [{ path: 'labels', fieldRef: { apiVersion: 'v1', fieldPath: 'metadata.labels' } }],
      },
    },
  ]
  return volumes
}

/** The part of a container that is whose: what the API server or a cloud's webhook put into ours stays. */
export function keepForeignParts(ours: Container, before: Container | undefined): Container {
  if (before === undefined) return ours
  const mounts = new Set((ours.volumeMounts ?? []).map(({ name }) => name))
  const names = new Set((ours.env ?? []).map(({ name }) => name))
  const foreignMounts = (before.volumeMounts ?? []).filter(
    ({ name, mountPath, readOnly }) =>
      !mounts.has(name) && readOnly === true && mountPath.startsWith('/var/run/secrets/') && !mountPath.includes('..'),
  )
  const foreignEnv = (before.env ?? []).filter(({ name }) => FOREIGN_VARIABLES.has(name) && !names.has(name))
  return {
    ...ours,
    ...(foreignMounts.length === 0 && ours.volumeMounts === undefined
      ? {}
      : { volumeMounts: [...(ours.volumeMounts ?? []), ...foreignMounts] }),
    env: [...(ours.env ?? []), ...foreignEnv],
  }
}

/** What clouds' own webhooks add to every container of a pod; the proxy reads none of them. The fence lets the same ones be. */
export const FOREIGN_VARIABLES: ReadonlySet<string> = new Set([
  'AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE',
  'AWS_CONTAINER_CREDENTIALS_FULL_URI',
  'AWS_DEFAULT_REGION',
  'AWS_REGION',
  'AWS_ROLE_ARN',
  'AWS_STS_REGIONAL_ENDPOINTS',
  'AWS_WEB_IDENTITY_TOKEN_FILE',
  'AZURE_AUTHORITY_HOST',
  'AZURE_CLIENT_ID',
  'AZURE_FEDERATED_TOKEN_FILE',
  'AZURE_TENANT_ID',
  'KUBERNETES_SERVICE_HOST',
])
