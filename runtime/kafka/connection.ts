import { readFile } from 'node:fs/promises'
import { isIP } from 'node:net'
import { createSecureContext, type SecureContextOptions } from 'node:tls'
import { findErrorBy, type BaseOptions, type GenericError } from '@platformatic/kafka'
import { SignetError } from '#core/error/signet-error.ts'

/** What a process's variables say of the brokers. `prefix`: what their names begin with, `SIGNET_KAFKA`. */
export type KafkaSettings = {
  readonly prefix: string
  /** HOST:PORT, with commas between; undefined: no Kafka. */
  readonly servers: string | undefined
  readonly tls: 'off' | 'on'
  readonly caFile: string | undefined
  readonly certFile: string | undefined
  readonly keyFile: string | undefined
  readonly mechanism: 'PLAIN' | 'SCRAM-SHA-256' | 'SCRAM-SHA-512' | undefined
  readonly username: string | undefined
  readonly passwordFile: string | undefined
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
 * Reads the files once, so that what is wrong is told at the start, and anew for each client, so that a password or a certificate that was replaced counts
 * without a restart. Null where no broker is named.
 * @throws SignetError CONFIG_INVALID for a file that cannot be read or used
 */
export async function kafkaConnector(
  settings: KafkaSettings,
  clientId: string,
): Promise<(() => Promise<KafkaConnection>) | null> {
  if (settings.servers === undefined) return null
  const servers = settings.servers.split(',')
  const connect = (): Promise<KafkaConnection> => connectionOf(settings, servers, clientId)
  await connect()
  return connect
}

async function connectionOf(settings: KafkaSettings, servers: string[], clientId: string): Promise<KafkaConnection> {
  const { prefix, mechanism, username } = settings
  const password = await fileOf(`${prefix}_SASL_PASSWORD_FILE`, settings.passwordFile)
  return {
    clientId,
    bootstrapBrokers: servers,
    timeout: REQUEST_TIMEOUT_MS,
    connectTimeout: CONNECT_TIMEOUT_MS,
    retries: 2,
    retryDelay: 250,
    autocreateTopics: false,
    ...(settings.tls === 'off' ? {} : { tls: await tlsOf(settings), tlsServerName: servers.every(isNamed) }),
    ...(mechanism === undefined || username === undefined || password === undefined
      ? {}
      : { sasl: { mechanism, username, password: password.replace(/\r?\n$/, '') } }),
  }
}

/** An address has no place in a TLS server name (RFC 6066, 3). */
function isNamed(server: string): boolean {
  return isIP(server.replace(/:\d+$/, '')) === 0
}

async function tlsOf({ prefix, caFile, certFile, keyFile }: KafkaSettings): Promise<SecureContextOptions> {
  const [ca, cert, key] = [
    await fileOf(`${prefix}_TLS_CA`, caFile),
    await fileOf(`${prefix}_TLS_CERT`, certFile),
    await fileOf(`${prefix}_TLS_KEY`, keyFile),
  ]
  const tls = { ...(ca === undefined ? {} : { ca }), ...(cert === undefined || key === undefined ? {} : { cert, key }) }
  try {
    createSecureContext(tls)
  } catch (cause) {
    throw new SignetError(
      'CONFIG_INVALID',
      `${prefix}_TLS_CA, ${prefix}_TLS_CERT and ${prefix}_TLS_KEY name no PEM files that can be used: certificates, and the key of the first one`,
      { cause },
    )
  }
  return tls
}

async function fileOf(variable: string, path: string | undefined): Promise<string | undefined> {
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

/** What `work` gives, unless the deadline comes first: a broker that hangs holds nobody up. @throws SignetError KAFKA_UNAVAILABLE, and what `work` throws */
export async function beforeDeadline<T>(deadline: AbortSignal, work: Promise<T>): Promise<T> {
  let late: (() => void) | undefined
  const over = new Promise<never>((_, reject) => {
    late = () => reject(new SignetError('KAFKA_UNAVAILABLE', 'Kafka took too long'))
    if (deadline.aborted) late()
    deadline.addEventListener('abort', late)
  })
  try {
    return await Promise.race([work, over])
  } finally {
    if (late !== undefined) deadline.removeEventListener('abort', late)
  }
}
