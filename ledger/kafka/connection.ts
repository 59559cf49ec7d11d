import { readFile } from 'node:fs/promises'
import { isIP } from 'node:net'
import { createSecureContext, type SecureContextOptions } from 'node:tls'
import { findErrorBy, type BaseOptions, type GenericError } from '@platformatic/kafka'
import { SignetError } from '#core/error/signet-error.ts'

export type KafkaConfig = {
  readonly SIGNET_KAFKA_BOOTSTRAP_SERVERS?: string
  readonly SIGNET_KAFKA_TLS: 'off' | 'on'
  readonly SIGNET_KAFKA_TLS_CA?: string
  readonly SIGNET_KAFKA_TLS_CERT?: string
  readonly SIGNET_KAFKA_TLS_KEY?: string
  readonly SIGNET_KAFKA_SASL_MECHANISM?: 'PLAIN' | 'SCRAM-SHA-256' | 'SCRAM-SHA-512'
  readonly SIGNET_KAFKA_SASL_USERNAME?: string
  readonly SIGNET_KAFKA_SASL_PASSWORD_FILE?: string
}

/** What every client of the broker is made with. `retries` are few: who sends or reads goes on by itself, with a client of a new. */
export type KafkaConnection = Pick<
  BaseOptions,
  | 'clientId'
  | 'bootstrapBrokers'
  | 'tls'
  | 'tlsServerName'
  | 'sasl'
  | 'timeout'
  | 'connectTimeout'
  | 'retries'
  | 'retryDelay'
  | 'autocreateTopics'
>

const REQUEST_TIMEOUT_MS = 10_000
const CONNECT_TIMEOUT_MS = 5_000

/**
 * Reads the files anew for each client, so that a password or a certificate that was replaced counts without a restart. Null where no broker is named.
 * @throws SignetError CONFIG_INVALID for a file that cannot be read or used
 */
export async function kafkaConnection(config: KafkaConfig, clientId: string): Promise<KafkaConnection | null> {
  const servers = config.SIGNET_KAFKA_BOOTSTRAP_SERVERS?.split(',')
  if (servers === undefined) return null
  const { SIGNET_KAFKA_SASL_MECHANISM: mechanism, SIGNET_KAFKA_SASL_USERNAME: username } = config
  const password = await fileOf(config, 'SIGNET_KAFKA_SASL_PASSWORD_FILE')
  return {
    clientId,
    bootstrapBrokers: servers,
    timeout: REQUEST_TIMEOUT_MS,
    connectTimeout: CONNECT_TIMEOUT_MS,
    retries: 2,
    retryDelay: 250,
    autocreateTopics: false,
    ...(config.SIGNET_KAFKA_TLS === 'off' ? {} : { tls: await tlsOf(config), tlsServerName: servers.every(isNamed) }),
    ...(mechanism === undefined || username === undefined || password === undefined
      ? {}
      : { sasl: { mechanism, username, password: password.replace(/\r?\n$/, '') } }),
  }
}

/** An address has no place in a TLS server name (RFC 6066, 3). */
function isNamed(server: string): boolean {
  return isIP(server.replace(/:\d+$/, '')) === 0
}

async function tlsOf(config: KafkaConfig): Promise<SecureContextOptions> {
  const [ca, cert, key] = [
    await fileOf(config, 'SIGNET_KAFKA_TLS_CA'),
    await fileOf(config, 'SIGNET_KAFKA_TLS_CERT'),
    await fileOf(config, 'SIGNET_KAFKA_TLS_KEY'),
  ]
  const tls = { ...(ca === undefined ? {} : { ca }), ...(cert === undefined || key === undefined ? {} : { cert, key }) }
  try {
    createSecureContext(tls)
  } catch (cause) {
    throw new SignetError(
      'CONFIG_INVALID',
      'SIGNET_KAFKA_TLS_CA, SIGNET_KAFKA_TLS_CERT and SIGNET_KAFKA_TLS_KEY name no PEM files that can be used: certificates, and the key of the first one',
      { cause },
    )
  }
  return tls
}

async function fileOf(
  config: KafkaConfig,
  variable:
    | 'SIGNET_KAFKA_TLS_CA'
    | 'SIGNET_KAFKA_TLS_CERT'
    | 'SIGNET_KAFKA_TLS_KEY'
    | 'SIGNET_KAFKA_SASL_PASSWORD_FILE',
): Promise<string | undefined> {
  const path = config[variable]
  if (path === undefined) return undefined
  return readFile(path, 'utf8').catch((cause: unknown) => {
    throw new SignetError('CONFIG_INVALID', `${variable} names ${path}, which cannot be read`, { cause })
  })
}

/** Whether the broker will never take this as it is, whenever it is sent. */
export function isTooLarge(error: unknown): boolean {
  return ['MESSAGE_TOO_LARGE', 'RECORD_LIST_TOO_LARGE'].some(
    (id) => error instanceof Error && findErrorBy(error as GenericError, 'apiId', id) !== null,
  )
}

/** The client takes names of headers as bytes only. */
export function wireHeaders(headers: Readonly<Record<string, Buffer>>): Map<Buffer, Buffer> {
  return new Map(Object.entries(headers).map(([name, content]) => [Buffer.from(name), content]))
}
