import { SignetError } from '#core/error/signet-error.ts'
import { kafkaConnector } from '#runtime/kafka/connection.ts'
import type { LedgerConfig } from '../config.ts'
import { keepTakingIn, type IntakeDeps } from './intake.ts'
import { keepFeeding, type OutboundDeps } from './outbound.ts'

export type KafkaDeps = Omit<OutboundDeps, 'connect' | 'topic' | 'maxMessageBytes'> &
  Omit<IntakeDeps, 'connect' | 'topics' | 'group'>

/** Kafka in and out, as far as they are configured. @throws SignetError CONFIG_INVALID */
export async function startKafka(config: LedgerConfig, deps: KafkaDeps): Promise<{ stop(): Promise<void> }> {
  const connect = await kafkaConnector(
    {
      prefix: 'SIGNET_KAFKA',
      servers: config.SIGNET_KAFKA_BOOTSTRAP_SERVERS,
      tls: config.SIGNET_KAFKA_TLS,
      caFile: config.SIGNET_KAFKA_TLS_CA,
      certFile: config.SIGNET_KAFKA_TLS_CERT,
      keyFile: config.SIGNET_KAFKA_TLS_KEY,
      mechanism: config.SIGNET_KAFKA_SASL_MECHANISM,
      username: config.SIGNET_KAFKA_SASL_USERNAME,
      passwordFile: config.SIGNET_KAFKA_SASL_PASSWORD_FILE,
    },
    'signet-ledger',
  )
  if (connect === null) return { stop: async () => undefined }
  const topics = parseIngestTopics(config.SIGNET_KAFKA_INGEST_TOPICS ?? '')
  const topic = config.SIGNET_KAFKA_TOPIC
  if (topic !== undefined && topics.has(topic))
    throw new SignetError('CONFIG_INVALID', `SIGNET_KAFKA_TOPIC and SIGNET_KAFKA_INGEST_TOPICS both name ${topic}`)
  const maxMessageBytes = config.SIGNET_KAFKA_MAX_MESSAGE_BYTES
  const running = [
    ...(topic === undefined ? [] : [keepFeeding({ ...deps, connect, topic, maxMessageBytes })]),
    ...(topics.size === 0 ? [] : [keepTakingIn({ ...deps, connect, topics, group: config.SIGNET_KAFKA_INGEST_GROUP })]),
  ]
  return {
    async stop() {
      await Promise.all(running.map((one) => one.stop()))
    },
  }
}

/** `TOPIC=TENANT,TOPIC=TENANT`. @throws SignetError CONFIG_INVALID for a topic that is named twice */
export function parseIngestTopics(text: string): ReadonlyMap<string, string> {
  const topics = new Map<string, string>()
  for (const pair of text.split(',')) {
    const [topic, tenant] = pair.split('=')
    if (topic === undefined || tenant === undefined) continue
    if (topics.has(topic))
      throw new SignetError('CONFIG_INVALID', `SIGNET_KAFKA_INGEST_TOPICS names the topic ${topic} twice`)
    topics.set(topic, tenant)
  }
  return topics
}
