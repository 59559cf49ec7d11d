import Type from 'typebox'
import type { Static } from 'typebox'
import { SignetError } from '#core/error/signet-error.ts'
import { readConfig } from '#runtime/config.ts'
import { LISTEN_ADDRESS, parseListenAddress, type ListenAddress } from '#runtime/http/listen.ts'
import { TELEMETRY_VARIABLES } from '#runtime/telemetry/variables.ts'

const Listen = (standard: string, description: string) =>
  Type.String({ ...LISTEN_ADDRESS, default: standard, description })
const Path = (description: string) => Type.Optional(Type.String({ minLength: 1, allowed: 'a path', description }))

/** Variables of the operator process. */
export const OPERATOR_CONFIG = Type.Object({
  SIGNET_NAMESPACE: Type.Optional(
    Type.String({
      pattern: '^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$',
      allowed: 'the name of a namespace',
      description:
        "The operator's own namespace: rules in it apply everywhere. Not set: that of the service account or of the kubeconfig's context.",
    }),
  ),
  SIGNET_POD_NAME: Type.Optional(
    Type.String({
      pattern: '^[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?$',
      allowed: 'the name of a pod',
      description: 'Name of this replica, unique among replicas. Not set: the host name.',
    }),
  ),
  SIGNET_POD_UID: Type.Optional(
    Type.String({
      minLength: 1,
      maxLength: 64,
      description: 'UID of its pod, so that what it writes for itself goes with it.',
    }),
  ),
  KUBECONFIG: Path(
    'A kubeconfig, for an operator that runs outside of a cluster. Not set: the service account of the pod.',
  ),
  KUBERNETES_SERVICE_HOST: Type.Optional(Type.String({ minLength: 1, description: 'Set by the kubelet.' })),
  KUBERNETES_SERVICE_PORT: Type.Optional(
    Type.String({ pattern: '^\\d{1,5}$', allowed: 'a port', description: 'Set by the kubelet.' }),
  ),
  SIGNET_WEBHOOKS_LISTEN: Listen(
    '127.0.0.1:9443',
    'Where the admission webhooks listen (TLS); in a pod 0.0.0.0:9443 or [::]:9443.',
  ),
  SIGNET_BUNDLES_LISTEN: Listen(
    '127.0.0.1:8443',
    'Where bundles are served (TLS); in a pod 0.0.0.0:8443 or [::]:8443.',
  ),
  SIGNET_ADMIN_LISTEN: Listen('127.0.0.1:9464', 'Listener of `/metrics`, `/livez` and `/readyz`; plain HTTP.'),
  SIGNET_CERTIFICATES: Type.Enum(['own', 'files'], {
    default: 'own',
    description:
      'Where certificates come from. `own`: the leader is the authority and keeps them in Secrets. `files`: from the three files below, which someone else (cert-manager) keeps, as well as the `caBundle` of the webhooks.',
  }),
  SIGNET_TLS_CERT_FILE: Path('PEM certificate chain of webhooks and bundles, with `files`. Followed live.'),
  SIGNET_TLS_KEY_FILE: Path('PEM key of that certificate, with `files`. Followed live.'),
  SIGNET_TRUST_CA_FILE: Path('PEM of the authority that pods shall trust, with `files`. Followed live.'),
  SIGNET_CA_LIFETIME_DAYS: Type.Integer({
    default: 1_825,
    minimum: 30,
    maximum: 7_300,
    description:
      'Life of the own authority, in days. Its successor is made, and trusted, at two thirds of it, and signs from five sixths on: pods that run for longer than a sixth have to be restarted in between.',
  }),
  SIGNET_TLS_LIFETIME_DAYS: Type.Integer({
    default: 90,
    minimum: 1,
    maximum: 825,
    description: 'Life of a serving certificate, in days; renewed at two thirds of it.',
  }),
  SIGNET_WEBHOOK_CONFIGURATION: Type.String({
    default: 'signet',
    minLength: 1,
    maxLength: 253,
    description:
      'Name of the MutatingWebhookConfiguration and ValidatingWebhookConfiguration whose `caBundle` is kept current.',
  }),
  SIGNET_OPA: Type.String({ minLength: 1, allowed: 'a path', description: 'The OPA binary that compiles rules.' }),
  SIGNET_OPA_MEMORY_MIB: Type.Integer({
    default: 2_048,
    minimum: 768,
    maximum: 65_536,
    description:
      "Memory that all of OPA's processes may have together, in MiB: three eighths, 768 at most, for rules that are being applied, the rest for what is compiled. A process that wants more than its share is ended, and one that cannot have it yet waits. The container needs 1.5 GiB besides.",
  }),
  SIGNET_COMPILE_TIMEOUT_MS: Type.Integer({
    default: 120_000,
    minimum: 1_000,
    maximum: 1_800_000,
    description: 'Longest time for the compilation of one scope: the root rules, or those of one namespace.',
  }),
  SIGNET_STANDARD_PACK: Type.Boolean({
    default: true,
    description: 'Whether the shipped rules (`policies/standard`) are part of every bundle.',
  }),
  SIGNET_INJECTION_SETTINGS: Path(
    'What every injected pod gets: a file in JSON or YAML (docs/injection.md). Not set: pods are not injected. Followed live.',
  ),
  SIGNET_NAMESPACE_MAP: Path(
    "The platform's namespace map: which tenant, region and channel a namespace is. Followed live.",
  ),
  SIGNET_LEDGER_URL: Type.Optional(
    Type.String({
      pattern: '^https?://',
      allowed: 'an http or https URL',
      description: 'Ledger that publications and refusals are recorded at. Not set: they are only logged.',
    }),
  ),
  SIGNET_LEDGER_TOKEN_FILE: Path(
    'File with the token for the ledger (audience `signet-ledger`); read anew for each call.',
  ),
  SIGNET_PLATFORM_TENANT: Type.String({
    default: 'platform',
    minLength: 1,
    maxLength: 512,
    description: "Tenant whose chain the operator's own events are in.",
  }),
  SIGNET_LEASE_MS: Type.Integer({
    default: 15_000,
    minimum: 3_000,
    maximum: 300_000,
    description:
      'How long the other replicas leave a silent leader alone. It steps down after two thirds of it without a renewal, and tries to renew seven times in it.',
  }),
  ...TELEMETRY_VARIABLES,
})

export type OperatorConfig = Static<typeof OPERATOR_CONFIG> & {
  readonly webhooksListen: ListenAddress
  readonly bundlesListen: ListenAddress
  readonly adminListen: ListenAddress
  /** With `files`: the three paths; null with `own`. */
  readonly tlsFiles: { readonly certFile: string; readonly keyFile: string; readonly caFile: string } | null
}
export type Environment = Readonly<Record<string, string | undefined>>

/** @throws SignetError CONFIG_INVALID with a line for each bad variable */
export function readOperatorConfig(env: Environment = process.env): OperatorConfig {
  const values = readConfig(OPERATOR_CONFIG, env)
  return {
    ...values,
    webhooksListen: parseListenAddress('SIGNET_WEBHOOKS_LISTEN', values.SIGNET_WEBHOOKS_LISTEN),
    bundlesListen: parseListenAddress('SIGNET_BUNDLES_LISTEN', values.SIGNET_BUNDLES_LISTEN),
    adminListen: parseListenAddress('SIGNET_ADMIN_LISTEN', values.SIGNET_ADMIN_LISTEN),
    tlsFiles: readTlsFiles(values),
  }
}

function readTlsFiles(values: Static<typeof OPERATOR_CONFIG>): OperatorConfig['tlsFiles'] {
  if (values.SIGNET_CERTIFICATES === 'own') return null
  const { SIGNET_TLS_CERT_FILE: certFile, SIGNET_TLS_KEY_FILE: keyFile, SIGNET_TRUST_CA_FILE: caFile } = values
  if (certFile !== undefined && keyFile !== undefined && caFile !== undefined) return { certFile, keyFile, caFile }
  const missing = Object.entries({
    SIGNET_TLS_CERT_FILE: certFile,
    SIGNET_TLS_KEY_FILE: keyFile,
    SIGNET_TRUST_CA_FILE: caFile,
  })
    .filter(([, value]) => value === undefined)
    .map(([name]) => `${name} is not set; SIGNET_CERTIFICATES=files needs it`)
  throw new SignetError('CONFIG_INVALID', missing.join('\n'), { details: { problems: missing } })
}
