import { readFile } from 'node:fs/promises'
import { findErrorBy, GenericError, MultipleErrors, type BaseOptions } from '@platformatic/kafka'
import { SignetError } from '#core/error/signet-error.ts'

/** What a process's variables say of the brokers. `prefix`: what their names begin with, `SIGNET_KAFKA`. */
export type KafkaSettings = {
  readonly prefix: string
  /** HOST:PORT, with commas between; undefined: no Kafka. */
  readonly servers: string | undefined
  readonly tls: 'off' | 'on'
  readonly caFile: string | undefined
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
  | 'sasl'
  | 'timeout'
  | 'connectTimeout'
  | 'retries'
  | 'retryDelay'
  | 'autocreateTopics'
>

const REQUEST_TIMEOUT_MS = 10_000
const CONNECT_TIMEOUT_MS = 5_000

/** @throws SignetError CONFIG_INVALID for a file that cannot be read; null where no broker is named */
export async function kafkaConnection(settings: KafkaSettings, clientId: string): Promise<KafkaConnection | null> {
  const { prefix, servers, caFile, mechanism, username, passwordFile } = settings
  if (servers === undefined) return null
  return {
    clientId,
    bootstrapBrokers: servers.split(','),
    timeout: REQUEST_TIMEOUT_MS,
    connectTimeout: CONNECT_TIMEOUT_MS,
    retries: 2,
    retryDelay: 250,
    autocreateTopics: false,
    ...(settings.tls === 'off'
      ? {}
      : { tls: caFile === undefined ? {} : { ca: await fileOf(`${prefix}_TLS_CA`, caFile) } }),
    ...(mechanism === undefined || username === undefined || passwordFile === undefined
      ? {}
      : {
          sasl: {
            mechanism,
            username,
            password: (await fileOf(`${prefix}_SASL_PASSWORD_FILE`, passwordFile)).replace(/\r?\n$/, ''),
          },
        }),
  }
}

async function fileOf(variable: string, path: string): Promise<string> {
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

/** A word for logs and metrics: what the client or the broker calls it. */
export function kafkaError(error: unknown): SignetError {
  if (error instanceof SignetError) return error
  const words = error instanceof Error ? messagesOf(error).slice(0, 4).join('; ') : 'unknown'
  return new SignetError('KAFKA_UNAVAILABLE', `Kafka: ${words.slice(0, 500)}`, { cause: error })
}

function messagesOf(error: Error): string[] {
  const own = error instanceof GenericError && typeof error['apiId'] === 'string' ? error['apiId'] : error.message
  const inner = error instanceof AggregateError || error instanceof MultipleErrors ? (error.errors as Error[]) : []
  return [own, ...inner.flatMap(messagesOf)]
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
