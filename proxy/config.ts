import { X509Certificate } from 'node:crypto'
import Type from 'typebox'
import { SignetError } from '#core/error/signet-error.ts'
import { RULE_MODES } from '#core/policy/manifest.ts'
import { readConfig } from '#runtime/config.ts'
import { LISTEN_ADDRESS } from '#runtime/http/listen.ts'
import { TELEMETRY_VARIABLES } from '#runtime/telemetry/variables.ts'
import { readRequired } from './required-file.ts'

const Listen = (description: string, standard: string) =>
  Type.String({ ...LISTEN_ADDRESS, default: standard, description })
const Milliseconds = (description: string, standard: number, minimum: number, maximum: number) =>
  Type.Integer({ minimum, maximum, default: standard, description })
const Bytes = Milliseconds

/** The proxy's environment. The only reader of `process.env` in this process is `readProxyConfig`. */
export const ProxyEnvironment = Type.Object({
  SIGNET_UPSTREAM: Type.String({
    pattern: '^https?://[^/?#]+/?$',
    allowed: 'an origin, for example http://127.0.0.1:3000',
    description: 'Origin of the service behind the proxy, `http://host:port`',
  }),
  SIGNET_EXTERNAL_LISTEN: Listen('Listener of the external channel', '127.0.0.1:8080'),
  SIGNET_INTERNAL_LISTEN: Type.Optional(
    Type.String({ ...LISTEN_ADDRESS, description: 'Listener of the internal channel; none where unset' }),
  ),
  SIGNET_ADMIN_LISTEN: Listen('Listener of `/metrics`, `/livez` and `/readyz`', '127.0.0.1:9464'),
  SIGNET_TENANT: Type.String({ minLength: 1, maxLength: 512, description: 'Tenant that the answers belong to' }),
  SIGNET_PRODUCER_ID: Type.String({ minLength: 1, maxLength: 512, description: 'Producer id in stamps' }),
  SIGNET_NAMESPACE: Type.String({
    default: 'default',
    minLength: 1,
    maxLength: 63,
    description: 'Namespace of the workload, as rules see it (`input.workload.namespace`)',
  }),
  SIGNET_REGION: Type.Optional(
    Type.String({ minLength: 1, maxLength: 128, description: 'Region that the workload runs in' }),
  ),
  SIGNET_MODE: Type.Enum(RULE_MODES, {
    default: 'enforce',
    description: 'Mode of a tenant that the policy data does not name',
  }),
  SIGNET_AUDIT: Type.Enum(['grouped', 'strict'], {
    default: 'grouped',
    description: '`strict` holds an answer until its event is on disk',
  }),
  SIGNET_KEYRING: Type.Optional(
    Type.String({
      minLength: 1,
      description:
        'Keyring file: the stamp key and the ledger’s public acknowledgement keys; re-read when it changes. Where unset, the ledger issues the keys to this pod',
    }),
  ),
  SIGNET_LEDGER_URL: Type.String({ pattern: '^https?://', allowed: 'an http or https URL', description: 'Ledger' }),
  SIGNET_LEDGER_TOKEN_FILE: Type.String({ minLength: 1, description: 'File that holds the token for the ledger' }),
  SIGNET_SPOOL_DIR: Type.String({ minLength: 1, description: 'Folder of the durable audit spool; one process only' }),
  SIGNET_SPOOL_MAX_BYTES: Bytes(
    'Audit events held while the ledger is away; past it answers are refused with 503',
    1_073_741_824,
    1_048_576,
    1e12,
  ),
  SIGNET_BUNDLE: Type.String({ minLength: 1, description: 'Policy bundle: a file or an `http(s)://` URL' }),
  SIGNET_BUNDLE_TRUST: Type.String({
    minLength: 1,
    description: 'Public keys that may sign bundles: a JWKS file or an `https://` URL',
  }),
  SIGNET_BUNDLE_SCOPE: Type.String({
    default: '*',
    minLength: 1,
    description: 'Scope that a bundle must have: `*` or `namespace/NAME`',
  }),
  SIGNET_BUNDLE_POLL_MS: Milliseconds('How often the bundle is looked at', 2_000, 100, 3_600_000),
  SIGNET_BUNDLE_WAIT: Type.Integer({
    default: 30,
    minimum: 0,
    maximum: 300,
    description: 'Seconds that a bundle server is asked to hold a poll until there is news; 0: it is not asked to',
  }),
  SIGNET_BUNDLE_TOKEN_FILE: Type.Optional(
    Type.String({
      minLength: 1,
      description: 'File that holds the token for the bundle server; re-read for each call',
    }),
  ),
  SIGNET_BUNDLE_STATUS_URL: Type.Optional(
    Type.String({
      pattern: '^https?://',
      allowed: 'an http or https URL',
      description: 'Where the revision in force is reported to, in the form of OPA’s status API; nowhere where unset',
    }),
  ),
  SIGNET_TRUST_CA: Type.Optional(
    Type.String({
      minLength: 1,
      allowed: 'PEM certificates, the text itself, or the path of a file that holds them',
      description: 'The platform’s certificate authorities: bundle server and ledger are believed by these alone',
    }),
  ),
  SIGNET_POD_NAME: Type.Optional(
    Type.String({ minLength: 1, maxLength: 253, description: 'Name of the pod, in status reports' }),
  ),
  SIGNET_POD_UID: Type.Optional(
    Type.String({ minLength: 1, maxLength: 64, description: 'Uid of the pod, in status reports' }),
  ),
  SIGNET_WORKLOAD_LABELS: Type.Optional(
    Type.String({
      minLength: 1,
      description:
        'File of the pod’s labels as the downward API writes it, for rules (`input.workload.labels`); re-read when it changes. None where unset',
    }),
  ),
  SIGNET_POLICY_DATA: Type.Optional(
    Type.String({
      minLength: 1,
      description: 'Policy data file: routes, approvals, modes, flags; re-read when it changes',
    }),
  ),
  SIGNET_POLICY_EVAL_TIMEOUT_MS: Milliseconds('Time limit of one evaluation', 200, 1, 10_000),
  SIGNET_POLICY_MEMORY_MIB: Type.Integer({
    default: 64,
    minimum: 2,
    maximum: 1024,
    description: 'Memory limit of one wasm instance',
  }),
  SIGNET_DECISION_CACHE_ENTRIES: Type.Integer({
    default: 10_000,
    minimum: 0,
    maximum: 1_000_000,
    description: 'Cached decisions of rules that read no body',
  }),
  SIGNET_BUFFER_BYTES: Bytes(
    'Largest answer that is held, inspected and stamped before its first byte leaves',
    1_048_576,
    1_024,
    134_217_728,
  ),
  SIGNET_COMPRESSION: Type.Enum(['on', 'off'], {
    default: 'on',
    description:
      '`on`: the service is asked for the content codings that the client takes, and answers leave in them; `off`: it is asked for `identity`, and they leave plain',
  }),
  SIGNET_COMPRESSION_MAX_RATIO: Type.Integer({
    default: 200,
    minimum: 2,
    maximum: 100_000,
    description:
      'Bytes that one compressed byte of the service may become, where the content is larger than SIGNET_BUFFER_BYTES; past it 502',
  }),
  SIGNET_BUFFER_TOTAL_BYTES: Bytes(
    'Bytes held by all answers together; past it requests get 503',
    268_435_456,
    1_048_576,
    17_179_869_184,
  ),
  SIGNET_MAX_IN_FLIGHT: Type.Integer({
    default: 2_000,
    minimum: 1,
    maximum: 100_000,
    description: 'Exchanges under way; past it requests get 503',
  }),
  SIGNET_UPSTREAM_CONNECTIONS: Type.Integer({
    default: 128,
    minimum: 1,
    maximum: 10_000,
    description: 'Connections to the upstream',
  }),
  SIGNET_UPSTREAM_HEADERS_TIMEOUT_MS: Milliseconds('Time for the upstream to begin its answer', 60_000, 1, 3_600_000),
  SIGNET_UPSTREAM_BODY_TIMEOUT_MS: Milliseconds('Time between two pieces of an upstream body', 60_000, 1, 3_600_000),
  SIGNET_REQUEST_TIMEOUT_MS: Milliseconds('Time for a client to send its whole request', 300_000, 1_000, 3_600_000),
  SIGNET_MAX_HEADER_BYTES: Bytes('Largest request head; past it 431', 32_768, 4_096, 1_048_576),
  SIGNET_STAMP_HEADER_MAX_BYTES: Bytes(
    'Largest `Compliance-Stamp` value; a longer one has the hash alone',
    4_096,
    128,
    65_536,
  ),
  SIGNET_STAMP_MEMORY_BYTES: Bytes('Stamps held in memory for the stamp URL', 33_554_432, 65_536, 4_294_967_296),
  SIGNET_PUBLIC_BASE_URL: Type.Optional(
    Type.String({
      pattern: '^https?://[^?#]+[^/]$',
      allowed: 'an http or https URL without a slash at its end',
      description: 'Makes stamp links absolute',
    }),
  ),
  SIGNET_TRUSTED_INGRESS: Type.String({
    default: '',
    description: 'Peers (IP addresses or CIDR blocks, comma-separated) whose `Signet-Caller-*` headers are believed',
  }),
  SIGNET_DRAIN_MS: Milliseconds('Time for requests and the spool to finish at shutdown', 20_000, 0, 600_000),
  SIGNET_PROBES: Type.Optional(
    Type.String({
      minLength: 2,
      allowed: 'JSON, as injection writes it',
      description:
        'Probes and httpGet hooks of the application, which the admin listener runs over loopback for the kubelet (capture `redirect`)',
    }),
  ),
  ...TELEMETRY_VARIABLES,
})
export type ProxyConfig = Type.Static<typeof ProxyEnvironment>

/** Parses the environment once, before a port opens; `SIGNET_TRUST_CA` is PEM afterwards. Throws CONFIG_INVALID. */
export function readProxyConfig(env: Readonly<Record<string, string | undefined>>): ProxyConfig {
  const config = readConfig(ProxyEnvironment, env)
  const ca = config.SIGNET_TRUST_CA
  return ca === undefined ? config : { ...config, SIGNET_TRUST_CA: readCertificates('SIGNET_TRUST_CA', ca) }
}

function readCertificates(variable: string, value: string): string {
  const isText = /^\s*-----BEGIN /.test(value)
  const pem = isText ? value : readRequired(variable, value)
  try {
    void new X509Certificate(pem)
    return pem
  } catch (cause) {
    const place = isText ? 'text' : `file ${JSON.stringify(value)}`
    throw new SignetError('CONFIG_INVALID', `${variable}: the ${place} is not PEM certificates`, { cause })
  }
}
