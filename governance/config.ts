import Type from 'typebox'
import type { Static } from 'typebox'
import { SignetError } from '#core/error/signet-error.ts'
import { LISTEN_ADDRESS, parseListenAddress, type ListenAddress } from '#runtime/http/listen.ts'
import { readConfig } from '#runtime/config.ts'
import { KUBERNETES_VARIABLES } from '#runtime/kubernetes/variables.ts'
import { TELEMETRY_VARIABLES } from '#runtime/telemetry/variables.ts'
import { DOMAIN_EVENT_VARIABLES, requireWholeKafka } from './domain-events/variables.ts'
import { EVIDENCE_VARIABLES } from './evidence/variables.ts'

const databaseUrl = (description: string): Type.TString =>
  Type.String({
    pattern: '^postgres(ql)?://',
    allowed: 'a connection string, postgres://USER:PASSWORD@HOST:PORT/DATABASE',
    secret: true,
    description,
  })

const RULES_DIR = Type.Optional(
  Type.String({
    minLength: 1,
    allowed: 'the path of a folder',
    description: 'Folder of scan rules (YAML, JSON) that every tenant has. The shipped packs where unset.',
  }),
)

/** Variables of the governance process. */
export const GOVERNANCE_CONFIG = Type.Object({
  SIGNET_DATABASE_URL: databaseUrl(
    'The primary store, as the login `signet_governance`; on a server other than the audit wall’s.',
  ),
  SIGNET_DATABASE_POOL_SIZE: Type.Integer({
    default: 10,
    minimum: 2,
    maximum: 200,
    description: 'Connections to the primary store at most.',
  }),
  SIGNET_GOVERNANCE_LISTEN: Type.String({
    ...LISTEN_ADDRESS,
    default: '127.0.0.1:8000',
    description: 'Where governance listens.',
  }),
  SIGNET_GOVERNANCE_TLS_CERT: Type.Optional(
    Type.String({
      minLength: 1,
      description:
        'PEM file with the certificate chain of the listener; re-read when it changes. Plain HTTP where unset.',
    }),
  ),
  SIGNET_GOVERNANCE_TLS_KEY: Type.Optional(
    Type.String({ minLength: 1, description: 'PEM file with the private key of that certificate.' }),
  ),
  SIGNET_GOVERNANCE_LEDGER_URL: Type.String({
    pattern: '^https?://[^\\s/]+/?$',
    allowed: 'an http or https URL without a path',
    description: 'The ledger, which every action is written to before it is answered.',
  }),
  SIGNET_GOVERNANCE_LEDGER_TOKEN_FILE: Type.String({
    minLength: 1,
    allowed: 'the path of a file',
    description:
      'File with the token for the ledger: `audit:write` and `audit:read` for every tenant; read for each call.',
  }),
  SIGNET_GOVERNANCE_LEDGER_CA: Type.Optional(
    Type.String({
      minLength: 1,
      description:
        'PEM file with the authority of the ledger’s certificate; re-read for each call. The system’s where unset.',
    }),
  ),
  SIGNET_GOVERNANCE_SWEEP_AFTER_MS: Type.Integer({
    default: 60_000,
    minimum: 1_000,
    maximum: 3_600_000,
    description: 'How old an action is before it counts as left behind: its intent is reverted, or its outcome sent.',
  }),
  SIGNET_OPA: Type.Optional(
    Type.String({
      minLength: 1,
      allowed: 'a path',
      description: 'The OPA binary that compiles policies. Without it none can be made or changed.',
    }),
  ),
  SIGNET_OPA_MEMORY_MIB: Type.Integer({
    default: 1_024,
    minimum: 768,
    maximum: 65_536,
    description: 'Memory that all of OPA’s processes may have together, in MiB; the container needs 1 GiB besides.',
  }),
  SIGNET_POLICY_EVAL_TIMEOUT_MS: Type.Integer({
    default: 200,
    minimum: 10,
    maximum: 10_000,
    description: 'How long one evaluation of a policy may take; then it is interrupted.',
  }),
  SIGNET_GOVERNANCE_BUNDLE_KEY_FILE: Type.Optional(
    Type.String({
      minLength: 1,
      allowed: 'the path of a file',
      description:
        'File with the private P-256 key (JWK with `kid`, or `{key, trust}` as `npm start` makes it) that bundles are signed with. Without it none are published: in a cluster the operator does that.',
    }),
  ),
  SIGNET_GOVERNANCE_RULES_DIR: RULES_DIR,
  SIGNET_GOVERNANCE_SCAN_ENDPOINTS: Type.Optional(
    Type.String({
      pattern: '^[a-z][a-z0-9_]{0,63}=[^\\s,=]+:\\d{1,5}(,[a-z][a-z0-9_]{0,63}=[^\\s,=]+:\\d{1,5}){0,31}$',
      allowed: 'NAME=HOST:PORT, several with commas',
      description: 'TLS endpoints whose certificates scans may look at, as facts `tls.NAME`.',
    }),
  ),
  SIGNET_GOVERNANCE_SCAN_URLS: Type.Optional(
    Type.String({
      pattern: '^[a-z][a-z0-9_]{0,63}=https?://[^\\s,]+(,[a-z][a-z0-9_]{0,63}=https?://[^\\s,]+){0,31}$',
      allowed: 'NAME=URL, several with commas',
      description: 'URLs whose JSON scans may read, as facts `http.NAME`.',
    }),
  ),
  SIGNET_GOVERNANCE_SCAN_NAMESPACES: Type.Optional(
    Type.String({
      pattern:
        '^[^\\s,=]{1,512}=[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(,[^\\s,=]{1,512}=[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?){0,255}$',
      allowed: 'TENANT=NAMESPACE, several with commas, also of one tenant',
      description:
        'Kubernetes namespaces that a tenant’s scans may look at, as the fact `kubernetes`. The Kubernetes API is not asked where unset.',
    }),
  ),
  ...EVIDENCE_VARIABLES,
  SIGNET_GOVERNANCE_RULES_NAMESPACE: Type.Optional(
    Type.String({
      pattern: '^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$',
      allowed: 'the name of a namespace',
      description:
        'In a cluster: the operator’s namespace, where policies that are in force are kept as ComplianceRules, which the operator makes bundles of.',
    }),
  ),
  ...KUBERNETES_VARIABLES,
  SIGNET_GOVERNANCE_SECRETS_KEY_FILE: Type.Optional(
    Type.String({
      minLength: 1,
      allowed: 'the path of a file',
      description:
        'File with 32 random bytes in base64, which the secrets of webhooks are sealed with in the database. Without it no webhook can be made.',
    }),
  ),
  SIGNET_GOVERNANCE_WEBHOOK_NETWORKS: Type.Optional(
    Type.String({
      pattern: '^[0-9A-Fa-f.:]+/\\d{1,3}(,[0-9A-Fa-f.:]+/\\d{1,3}){0,63}$',
      allowed: 'networks in CIDR notation, several with commas',
      description: 'Networks that webhooks may lead to although they are not public, over plain HTTP as well.',
    }),
  ),
  SIGNET_GOVERNANCE_STRIPE_SECRETS_FILE: Type.Optional(
    Type.String({
      minLength: 1,
      allowed: 'the path of a file',
      description:
        'File with what Stripe signs its events with, JSON by tenant: `{"acme": "whsec_…"}`; read at start. In a cluster a mounted Secret (`governance.stripe`).',
    }),
  ),
  SIGNET_GOVERNANCE_EVENT_DAYS: Type.Integer({
    default: 400,
    minimum: 62,
    maximum: 3_660,
    description:
      'How long compliance events are kept, in days, with violations that were resolved as long ago. What is not resolved stays.',
  }),
  SIGNET_GOVERNANCE_BILLING_URL: Type.Optional(
    Type.String({
      pattern: '^https?://[^\\s/]+/?$',
      allowed: 'an http or https URL without a path',
      description: 'Stripe, or a billing API of its form, which violations about billing are resolved by.',
    }),
  ),
  SIGNET_GOVERNANCE_BILLING_KEY_FILE: Type.Optional(
    Type.String({
      minLength: 1,
      allowed: 'the path of a file',
      description: 'File with the key for it; read for each call.',
    }),
  ),
  SIGNET_GOVERNANCE_OBSERVE_ORIGINS: Type.Optional(
    Type.String({
      pattern: '^[^\\s,=]+=https?://[^\\s,/?#@]+(,[^\\s,=]+=https?://[^\\s,/?#@]+){0,255}$',
      allowed: 'TENANT=ORIGIN, several with commas',
      description:
        'Where endpoints of a tenant are looked at, to see whether they answer as their contract says: `acme=https://api.acme.example`. Without it none are.',
    }),
  ),
  SIGNET_GOVERNANCE_OBSERVE_NETWORKS: Type.Optional(
    Type.String({
      pattern: '^[0-9A-Fa-f.:]+/\\d{1,3}(,[0-9A-Fa-f.:]+/\\d{1,3}){0,63}$',
      allowed: 'networks in CIDR notation, several with commas',
      description: 'Networks that these origins may be in although they are not public, over plain HTTP as well.',
    }),
  ),
  ...DOMAIN_EVENT_VARIABLES,
  ...TELEMETRY_VARIABLES,
})

const OWNER = {
  SIGNET_DATABASE_OWNER_URL: databaseUrl('The primary store, as a login that may become its owner (`signet_owner`).'),
  SIGNET_LOG_LEVEL: TELEMETRY_VARIABLES.SIGNET_LOG_LEVEL,
}

/** What `governance/main.ts migrate` needs: it brings the database up to date and leaves. */
export const GOVERNANCE_MIGRATE_CONFIG = Type.Object(OWNER)

/** What `governance/main.ts create-tenant` needs: it makes a tenant with its first user, writes that user's token, and leaves. */
export const CREATE_TENANT_CONFIG = Type.Object({
  ...OWNER,
  SIGNET_NEW_TENANT: Type.String({
    pattern: '^[^\\s]{1,512}$',
    allowed: 'a name without spaces',
    description: 'The tenant, as stamps and audit events name it.',
  }),
  SIGNET_NEW_TENANT_NAME: Type.Optional(
    Type.String({ minLength: 1, maxLength: 200, description: 'Its name for people.' }),
  ),
  SIGNET_NEW_TENANT_ADMIN_EMAIL: Type.String({
    pattern: '^[^\\s@]{1,64}@[^\\s@]{1,189}$',
    allowed: 'an e-mail address',
    description: 'Its first user, with the role Admin.',
  }),
  SIGNET_NEW_TENANT_ADMIN_PASSWORD_FILE: Type.Optional(
    Type.String({ minLength: 1, description: 'File with that user’s password. Without it, only the token is there.' }),
  ),
  SIGNET_GOVERNANCE_RULES_DIR: RULES_DIR,
  SIGNET_NEW_TENANT_BUNDLE_TOKEN_FILE: Type.Optional(
    Type.String({
      minLength: 1,
      description:
        'Where a token is written (mode 0600) that proxies get the tenant’s bundle with; a new one each time, it holds for a year.',
    }),
  ),
  SIGNET_NEW_TENANT_TOKEN_FILE: Type.String({
    minLength: 1,
    description: 'Where the token of that user is written (mode 0600); it holds for a day.',
  }),
})

export type GovernanceConfig = Static<typeof GOVERNANCE_CONFIG> & {
  readonly listen: ListenAddress
  readonly tls: { readonly certFile: string; readonly keyFile: string } | null
}
export type Environment = Readonly<Record<string, string | undefined>>

/** @throws SignetError CONFIG_INVALID with a line for each bad variable */
export function readGovernanceConfig(env: Environment = process.env): GovernanceConfig {
  const values = readConfig(GOVERNANCE_CONFIG, env)
  const { SIGNET_GOVERNANCE_TLS_CERT: certFile, SIGNET_GOVERNANCE_TLS_KEY: keyFile } = values
  if ((certFile === undefined) !== (keyFile === undefined))
    throw new SignetError(
      'CONFIG_INVALID',
      'SIGNET_GOVERNANCE_TLS_CERT and SIGNET_GOVERNANCE_TLS_KEY must be set together',
    )
  if (
    (values.SIGNET_GOVERNANCE_BILLING_URL === undefined) !==
    (values.SIGNET_GOVERNANCE_BILLING_KEY_FILE === undefined)
  )
    throw new SignetError(
      'CONFIG_INVALID',
      'SIGNET_GOVERNANCE_BILLING_URL and SIGNET_GOVERNANCE_BILLING_KEY_FILE must be set together',
    )
  requireWholeKafka(values)
  return {
    ...values,
    listen: parseListenAddress('SIGNET_GOVERNANCE_LISTEN', values.SIGNET_GOVERNANCE_LISTEN),
    tls: certFile === undefined || keyFile === undefined ? null : { certFile, keyFile },
  }
}

/** @throws SignetError CONFIG_INVALID with a line for each bad variable */
export function readGovernanceMigrateConfig(env: Environment = process.env): Static<typeof GOVERNANCE_MIGRATE_CONFIG> {
  return readConfig(GOVERNANCE_MIGRATE_CONFIG, env)
}

/** @throws SignetError CONFIG_INVALID with a line for each bad variable */
export function readCreateTenantConfig(env: Environment = process.env): Static<typeof CREATE_TENANT_CONFIG> {
  return readConfig(CREATE_TENANT_CONFIG, env)
}
