import Type from 'typebox'
import type { Static } from 'typebox'
import { SignetError } from '#core/error/signet-error.ts'
import { LISTEN_ADDRESS, parseListenAddress, type ListenAddress } from '#runtime/http/listen.ts'
import { readConfig } from '#runtime/config.ts'
import { KUBERNETES_VARIABLES } from '#runtime/kubernetes/variables.ts'
import { TELEMETRY_VARIABLES } from '#runtime/telemetry/variables.ts'
import { ARCHIVE_VARIABLES } from './archive/variables.ts'
import { EXPORT_VARIABLES, mailSettings, type MailSettings } from './export/variables.ts'
import { checkKafkaVariables, KAFKA_VARIABLES } from './kafka/variables.ts'

const databaseUrl = (description: string): Type.TString =>
  Type.String({
    pattern: '^postgres(ql)?://',
    allowed: 'a connection string, postgres://USER:PASSWORD@HOST:PORT/DATABASE',
    secret: true,
    description,
  })

const KEYS_SECRET = {
  SIGNET_LEDGER_KEYS_SECRET: Type.Optional(
    Type.String({
      pattern: '^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?/[a-z0-9]([-.a-z0-9]{0,251}[a-z0-9])?$',
      allowed: 'NAMESPACE/NAME of a Secret',
      description:
        'Secret that holds the keyring (`keyring.json`), for example `signet-system/signet-ledger-keys`. The running ledger follows it.',
    }),
  ),
}

/** Variables of the ledger process. */
export const LEDGER_CONFIG = Type.Object({
  SIGNET_LEDGER_AUDIT_DB_URL: databaseUrl(
    'The audit wall, as a login that may INSERT and SELECT only (`signet_ledger`).',
  ),
  SIGNET_LEDGER_AUDIT_DB_POOL_SIZE: Type.Integer({
    default: 5,
    minimum: 2,
    maximum: 200,
    description: 'Connections to the audit wall at most.',
  }),
  SIGNET_LEDGER_STATE_URL: databaseUrl(
    "The ledger's work database (sessions and cursors), on a server other than the wall's.",
  ),
  SIGNET_LEDGER_AUDIT_DB_OWNER_URL: Type.Optional(
    databaseUrl(
      'The audit wall, as a login that may become its owner (`signet_owner`): where set, migrations run at start.',
    ),
  ),
  SIGNET_LEDGER_STATE_OWNER_URL: Type.Optional(
    databaseUrl(
      'The work database, as a login that may become its owner (`signet_owner`): where set, migrations run at start.',
    ),
  ),
  SIGNET_LEDGER_LISTEN: Type.String({
    ...LISTEN_ADDRESS,
    default: '127.0.0.1:8090',
    description: 'Where the ledger listens.',
  }),
  SIGNET_LEDGER_KEYRING: Type.String({
    minLength: 1,
    allowed: 'the path of a keyring file',
    description:
      'Keyring file with the chain keys and the ack keys, and for workload identities the stamp roots and the workload CA; re-read when it changes.',
  }),
  SIGNET_LEDGER_TOKENS: Type.Optional(
    Type.String({
      minLength: 1,
      allowed: 'the path of a token file',
      description:
        'Token file: who may call, for which tenant, with which scopes (`audit:write`, `audit:read`). Needed where `SIGNET_LEDGER_AUDIENCE` is not set.',
    }),
  ),
  SIGNET_LEDGER_TLS_CERT: Type.Optional(
    Type.String({
      minLength: 1,
      description:
        'PEM file with the certificate chain of the listener; re-read when it changes. Plain HTTP where unset.',
    }),
  ),
  SIGNET_LEDGER_TLS_KEY: Type.Optional(
    Type.String({ minLength: 1, description: 'PEM file with the private key of that certificate.' }),
  ),
  SIGNET_LEDGER_AUDIENCE: Type.Optional(
    Type.String({
      minLength: 1,
      maxLength: 256,
      description:
        'Audience of the service-account tokens that are accepted, for example `signet-ledger`; the Kubernetes API reviews them. None are where unset.',
    }),
  ),
  SIGNET_LEDGER_TOKEN_CACHE_MS: Type.Integer({
    default: 30_000,
    minimum: 0,
    maximum: 60_000,
    description: 'How long the API server’s word on a service-account token holds.',
  }),
  SIGNET_LEDGER_SERVICE_ACCOUNTS: Type.Optional(
    Type.String({
      minLength: 1,
      description:
        'File (JSON or YAML) with service accounts that are more than a workload: tenant and scopes of each; re-read when it changes.',
    }),
  ),
  SIGNET_LEDGER_DENIED_PRODUCERS: Type.Optional(
    Type.String({
      minLength: 1,
      description:
        'File (JSON or YAML) with producers that are shut out, whatever their tokens say; re-read when it changes.',
    }),
  ),
  SIGNET_NAMESPACE_MAP: Type.Optional(
    Type.String({
      minLength: 1,
      description:
        'Namespace map (JSON or YAML): which tenant a namespace is; re-read when it changes. Each is its own tenant where unset.',
    }),
  ),
  SIGNET_LEDGER_SEALING: Type.Enum(['required', 'off'], {
    default: 'required',
    description:
      'Whether personal fields are encrypted per person before they are recorded. `required` needs a key with use `seal-master` in the keyring; `off` records them in clear, for ever, and nobody can be erased.',
  }),
  SIGNET_LEDGER_PERSONAL: Type.Optional(
    Type.String({
      minLength: 1,
      allowed: 'the path of a file',
      description:
        'File (JSON or YAML) that says what is personal beside the defaults: services, identifiers, personal members, types of resources; re-read when it changes.',
    }),
  ),
  SIGNET_LEDGER_RESIDENCY: Type.Optional(
    Type.String({
      minLength: 1,
      allowed: 'the path of a file',
      description:
        'File (JSON or YAML) that says which data have to be in which region and store; what this ledger may not keep is refused. Re-read when it changes. Anything is kept where unset.',
    }),
  ),
  SIGNET_LEDGER_ORIGIN: Type.String({
    default: 'signet-ledger',
    pattern: '^[^\\s+]{1,255}$',
    allowed: 'a name without spaces and plus signs, for example ledger.example.com/signet',
    description:
      'Name of this log in its checkpoints (the origin of c2sp.org/tlog-checkpoint): unique in the world where outsiders check them, and for ever the same.',
  }),
  SIGNET_LEDGER_RETENTION_POLICIES: Type.Optional(
    Type.String({
      minLength: 1,
      description:
        "File with the platform's retention policies (`policies.json` of the ConfigMap `signet-retention-policies`, which the operator writes); re-read when it changes. While it cannot be read nothing new is given a time to go. Where unset, only policies put through the API count.",
    }),
  ),
  SIGNET_LEDGER_PURGE_EVERY_MINUTES: Type.Integer({
    default: 60,
    minimum: 0,
    maximum: 10_080,
    description:
      'Minutes between two rounds of purging what its retention policy lets go, in one ledger process at a time; 0: this one purges on demand only.',
  }),
  SIGNET_LEDGER_VERIFY_SHARE: Type.Integer({
    default: 10,
    minimum: 0,
    maximum: 100,
    description:
      'Percent of the time that the background verifier may take, in one ledger process at a time; 0 switches it off in this one.',
  }),
  ...KAFKA_VARIABLES,
  SIGNET_LEDGER_WALL_LOG: Type.Optional(
    Type.String({
      minLength: 1,
      allowed: 'the path of a folder',
      description:
        "Folder with the log of the audit wall's PostgreSQL (`*.json`, `log_destination = jsonlog`): attempts on the wall are recorded from it. They are not where unset.",
    }),
  ),
  SIGNET_LEDGER_PLATFORM_TENANT: Type.String({
    default: 'platform',
    minLength: 1,
    maxLength: 512,
    description: 'Tenant whose chain has what concerns no tenant of its own, such as attempts on the wall.',
  }),
  SIGNET_TRUST_DOMAIN: Type.String({
    default: 'cluster.local',
    pattern: '^[a-z0-9][a-z0-9._-]{0,253}$',
    allowed: 'a SPIFFE trust domain, for example cluster.local',
    description: 'Trust domain in the certificates of workloads.',
  }),
  ...EXPORT_VARIABLES,
  ...ARCHIVE_VARIABLES,
  ...KEYS_SECRET,
  ...KUBERNETES_VARIABLES,
  ...TELEMETRY_VARIABLES,
})

/** What `ledger/main.ts init-keys` needs: it makes the keys of a cluster's ledger, once, and leaves. */
export const INIT_KEYS_CONFIG = Type.Object({
  SIGNET_LEDGER_KEYRING: Type.String({
    minLength: 1,
    allowed: 'the path of a keyring file',
    description: 'Where the keyring is written, for the ledger to read (mode 0600).',
  }),
  ...KEYS_SECRET,
  ...KUBERNETES_VARIABLES,
  SIGNET_LOG_LEVEL: TELEMETRY_VARIABLES.SIGNET_LOG_LEVEL,
})

/** What `ledger/main.ts migrate` needs: it brings both databases up to date and leaves. */
export const MIGRATE_CONFIG = Type.Object({
  SIGNET_LEDGER_AUDIT_DB_OWNER_URL: databaseUrl('The audit wall, as a login that may become its owner.'),
  SIGNET_LEDGER_STATE_OWNER_URL: databaseUrl('The work database, as a login that may become its owner.'),
  SIGNET_LOG_LEVEL: TELEMETRY_VARIABLES.SIGNET_LOG_LEVEL,
})

export type LedgerConfig = Static<typeof LEDGER_CONFIG> & {
  readonly listen: ListenAddress
  readonly mail: MailSettings | null
  readonly tls: { readonly certFile: string; readonly keyFile: string } | null
}
export type InitKeysConfig = Static<typeof INIT_KEYS_CONFIG>
export type Environment = Readonly<Record<string, string | undefined>>

/** @throws SignetError CONFIG_INVALID with a line for each bad variable */
export function readLedgerConfig(env: Environment = process.env): LedgerConfig {
  const values = readConfig(LEDGER_CONFIG, env)
  const { SIGNET_LEDGER_TLS_CERT: certFile, SIGNET_LEDGER_TLS_KEY: keyFile } = values
  if ((certFile === undefined) !== (keyFile === undefined))
    throw new SignetError('CONFIG_INVALID', 'SIGNET_LEDGER_TLS_CERT and SIGNET_LEDGER_TLS_KEY must be set together')
  if (values.SIGNET_LEDGER_TOKENS === undefined && values.SIGNET_LEDGER_AUDIENCE === undefined) {
    throw new SignetError(
      'CONFIG_INVALID',
      'neither SIGNET_LEDGER_TOKENS nor SIGNET_LEDGER_AUDIENCE is set; without both nobody could call the ledger',
    )
  }
  checkKafkaVariables(values)
  return {
    ...values,
    listen: parseListenAddress('SIGNET_LEDGER_LISTEN', values.SIGNET_LEDGER_LISTEN),
    mail: mailSettings(values),
    tls: certFile === undefined || keyFile === undefined ? null : { certFile, keyFile },
  }
}

/** @throws SignetError CONFIG_INVALID with a line for each bad variable */
export function readMigrateConfig(env: Environment = process.env): Static<typeof MIGRATE_CONFIG> {
  return readConfig(MIGRATE_CONFIG, env)
}

/** @throws SignetError CONFIG_INVALID with a line for each bad variable */
export function readInitKeysConfig(env: Environment = process.env): InitKeysConfig {
  return readConfig(INIT_KEYS_CONFIG, env)
}
