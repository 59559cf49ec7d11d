import Type from 'typebox'
import { Compile } from 'typebox/compile'
import { canonicalize } from '../canonical/jcs.ts'
import { sha256 } from '../crypto/digest.ts'
import { firstFault } from '../error/schema-fault.ts'
import { SignetError } from '../error/signet-error.ts'
import { namespaceSettings, type NamespaceMap } from '../identity/namespace-map.ts'
import { RULE_MODES } from '../policy/manifest.ts'
import { CAPTURES } from './names.ts'

const Quantity = Type.String({ pattern: '^[0-9]+(\\.[0-9]+)?(m|k|Ki|M|Mi|G|Gi)?$' })
const Resources = Type.Object(
  { cpu: Type.Optional(Quantity), memory: Type.Optional(Quantity), 'ephemeral-storage': Type.Optional(Quantity) },
  { additionalProperties: false },
)
const Https = Type.String({ pattern: '^https://[^/?#\\s]+$' })

/** Tuning of the proxy that changes nothing of what it lets out. Everything else of its environment is the injection's. */
export const TUNABLE_VARIABLES =
  '^(OTEL_EXPORTER_OTLP_ENDPOINT|SIGNET_(LOG_LEVEL|AUDIT|BUFFER_BYTES|BUFFER_TOTAL_BYTES|MAX_IN_FLIGHT|UPSTREAM_CONNECTIONS|UPSTREAM_HEADERS_TIMEOUT_MS|UPSTREAM_BODY_TIMEOUT_MS|REQUEST_TIMEOUT_MS|MAX_HEADER_BYTES|STAMP_MEMORY_BYTES|DECISION_CACHE_ENTRIES|POLICY_EVAL_TIMEOUT_MS|POLICY_MEMORY_MIB|PUBLIC_BASE_URL))$'

/** What the platform says of every injected pod: the file of `signet inject --settings`, and what the operator runs with. */
export const InjectionTemplate = Type.Object(
  {
    version: Type.Literal(1),
    images: Type.Object(
      {
        proxy: Type.String({ minLength: 1, maxLength: 1_024 }),
        redirect: Type.String({ minLength: 1, maxLength: 1_024 }),
        pullPolicy: Type.Optional(Type.Enum(['Always', 'IfNotPresent', 'Never'])),
      },
      { additionalProperties: false },
    ),
    /** Origins. Both are asked with the pod's own tokens and trusted by `trustCa` alone. */
    ledgerUrl: Https,
    bundlesUrl: Https,
    /** The platform's CA, PEM. */
    trustCa: Type.String({ pattern: '^-----BEGIN CERTIFICATE-----', maxLength: 65_536 }),
    /** Mode of a workload that asks for none; a pod may only ask for a stricter one. Default enforce. */
    mode: Type.Optional(Type.Enum(RULE_MODES)),
    /** Default named-port. Namespaces that require Signet have redirect, whatever this says. */
    capture: Type.Optional(Type.Enum(CAPTURES)),
    /** `[::]` where pods have IPv6 addresses. Default 0.0.0.0. */
    listenHost: Type.Optional(Type.Enum(['0.0.0.0', '[::]'])),
    /** Milliseconds that requests, and then the spool, get at the end. Added twice to the pod's grace period. Default 6,000. */
    drainMs: Type.Optional(Type.Integer({ minimum: 0, maximum: 600_000 })),
    /** MiB of audit events that a pod holds while the ledger is away. Default 384. */
    spoolMiB: Type.Optional(Type.Integer({ minimum: 16, maximum: 65_536 })),
    /** Seconds that a projected token lives; the kubelet renews it at 80 %. Default 3,600. */
    tokenSeconds: Type.Optional(Type.Integer({ minimum: 600, maximum: 86_400 })),
    resources: Type.Optional(
      Type.Object(
        { requests: Type.Optional(Resources), limits: Type.Optional(Resources) },
        { additionalProperties: false },
      ),
    ),
    /** More of the proxy's environment: `TUNABLE_VARIABLES` only. */
    env: Type.Optional(
      Type.Record(Type.String({ pattern: TUNABLE_VARIABLES }), Type.String({ maxLength: 4_096 }), {
        additionalProperties: false,
      }),
    ),
  },
  { additionalProperties: false },
)
export type InjectionTemplate = Type.Static<typeof InjectionTemplate>

/** A namespace as the platform's map (`core/identity/namespace-map.ts`) and its own labels say it is. */
export type NamespaceFacts = {
  readonly name: string
  readonly labels: Readonly<Record<string, string>>
  readonly tenant: string
  /** Tenants that a pod may choose among; `tenant` is always one. */
  readonly tenants: readonly string[]
  readonly region: string | null
  readonly channel: 'external' | 'internal'
  readonly passthroughPorts: readonly number[]
}

export type InjectionSettings = { readonly template: InjectionTemplate; readonly namespace: NamespaceFacts }

/**
 * What the platform's map says of a namespace. A channel that it does not give is external.
 * @throws SignetError FORBIDDEN for a namespace that has the name of another's tenant
 */
export function namespaceFacts(
  map: NamespaceMap,
  namespace: { readonly name: string; readonly labels: Readonly<Record<string, string>> },
): NamespaceFacts {
  const settings = namespaceSettings(map, namespace.name)
  return { ...namespace, ...settings, channel: settings.channel ?? 'external' }
}

const template = Compile(InjectionTemplate)

/** @throws SignetError CONFIG_INVALID naming the place and what is allowed there */
export function parseInjectionTemplate(value: unknown): InjectionTemplate {
  if (template.Check(value)) return value
  const { path, allowed } = firstFault(template.Errors(value))
  throw new SignetError('CONFIG_INVALID', `the injection settings cannot be used: ${path} ${allowed}`)
}

/** Changes when a pod injected before would be injected otherwise now; `signet.dev/injected` carries it. 16 hexadecimal digits. */
export function templateHash({ template, namespace }: InjectionSettings): string {
  const { labels: _, ...identity } = namespace
  return sha256(canonicalize(JSON.parse(JSON.stringify({ template, identity }))))
    .toString('hex')
    .slice(0, 16)
}
