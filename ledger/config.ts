import Type from 'typebox'
import type { Static } from 'typebox'
import { LISTEN_ADDRESS, parseListenAddress, type ListenAddress } from '#runtime/http/listen.ts'
import { readConfig } from '#runtime/config.ts'
import { TELEMETRY_VARIABLES } from '#runtime/telemetry/variables.ts'

const databaseUrl = (description: string): Type.TString =>
  Type.String({
    pattern: '^postgres(ql)?://',
    allowed: 'a connection string, postgres://USER:PASSWORD@HOST:PORT/DATABASE',
    secret: true,
    description,
  })

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
    description: 'Keyring file with the chain keys and the ack keys.',
  }),
  SIGNET_LEDGER_TOKENS: Type.String({
    minLength: 1,
    allowed: 'the path of a token file',
    description: 'Token file: who may call, for which tenant, with which scopes (`audit:write`, `audit:read`).',
  }),
  ...TELEMETRY_VARIABLES,
})

/** What `ledger/main.ts migrate` needs: it brings both databases up to date and leaves. */
export const MIGRATE_CONFIG = Type.Object({
  SIGNET_LEDGER_AUDIT_DB_OWNER_URL: databaseUrl('The audit wall, as a login that may become its owner.'),
  SIGNET_LEDGER_STATE_OWNER_URL: databaseUrl('The work database, as a login that may become its owner.'),
  SIGNET_LOG_LEVEL: TELEMETRY_VARIABLES.SIGNET_LOG_LEVEL,
})

export type LedgerConfig = Static<typeof LEDGER_CONFIG> & { readonly listen: ListenAddress }
export type Environment = Readonly<Record<string, string | undefined>>

/** @throws SignetError CONFIG_INVALID with a line for each bad variable */
export function readLedgerConfig(env: Environment = process.env): LedgerConfig {
  const values = readConfig(LEDGER_CONFIG, env)
  return { ...values, listen: parseListenAddress('SIGNET_LEDGER_LISTEN', values.SIGNET_LEDGER_LISTEN) }
}

/** @throws SignetError CONFIG_INVALID with a line for each bad variable */
export function readMigrateConfig(env: Environment = process.env): Static<typeof MIGRATE_CONFIG> {
  return readConfig(MIGRATE_CONFIG, env)
}
