import Type, { type Static } from 'typebox'
import { SignetError } from '#core/error/signet-error.ts'

export const KAFKA_VARIABLES = {
  SIGNET_KAFKA_BOOTSTRAP_SERVERS: Type.Optional(
    Type.String({
      pattern: '^[^\\s,:]+:[0-9]{1,5}(,[^\\s,:]+:[0-9]{1,5})*$',
      allowed: 'HOST:PORT, several with commas between',
      description: 'Kafka brokers to begin with. No Kafka where unset.',
    }),
  ),
  SIGNET_KAFKA_TOPIC: Type.Optional(
    Type.String({
      pattern: '^[a-zA-Z0-9._-]{1,249}$',
      allowed: 'the name of a topic',
      description: 'Topic that every chain is handed on to, as CloudEvents; it has to be there. None where unset.',
    }),
  ),
  SIGNET_KAFKA_MAX_MESSAGE_BYTES: Type.Integer({
    default: 900_000,
    minimum: 16_384,
    maximum: 64 * 1024 * 1024,
    description:
      'Bytes of a message at most, below `max.message.bytes` of the topic; a record past it goes out as a reference.',
  }),
  SIGNET_KAFKA_INGEST_TOPICS: Type.Optional(
    Type.String({
      pattern: '^[a-zA-Z0-9._-]{1,237}=[^\\s,=]{1,512}(,[a-zA-Z0-9._-]{1,237}=[^\\s,=]{1,512})*$',
      allowed: 'TOPIC=TENANT, several with commas between',
      description:
        'Topics whose messages are recorded, each for one tenant; what is refused goes to `TOPIC.dead-letter`. The broker has to allow only that tenant to write to it.',
    }),
  ),
  SIGNET_KAFKA_INGEST_GROUP: Type.String({
    default: 'signet-ledger',
    pattern: '^[a-zA-Z0-9._-]{1,249}$',
    allowed: 'the name of a consumer group',
    description: 'Consumer group in which the ledger processes share the ingest topics.',
  }),
  SIGNET_KAFKA_TLS: Type.Enum(['off', 'on'], {
    default: 'off',
    description: 'Whether the brokers are spoken to over TLS.',
  }),
  SIGNET_KAFKA_TLS_CA: Type.Optional(
    Type.String({
      minLength: 1,
      description: 'PEM file with the authorities of the brokers; those of Node where unset.',
    }),
  ),
  SIGNET_KAFKA_TLS_CERT: Type.Optional(
    Type.String({
      minLength: 1,
      description: 'PEM file with the certificate by which the ledger says who it is to the brokers. None where unset.',
    }),
  ),
  SIGNET_KAFKA_TLS_KEY: Type.Optional(Type.String({ minLength: 1, description: 'PEM file with its key.' })),
  SIGNET_KAFKA_SASL_MECHANISM: Type.Optional(
    Type.Enum(['PLAIN', 'SCRAM-SHA-256', 'SCRAM-SHA-512'], {
      description: 'How the ledger says who it is to the brokers; not at all where unset.',
    }),
  ),
  SIGNET_KAFKA_SASL_USERNAME: Type.Optional(Type.String({ minLength: 1, description: 'Its name there.' })),
  SIGNET_KAFKA_SASL_PASSWORD_FILE: Type.Optional(
    Type.String({ minLength: 1, description: 'File with its password there.' }),
  ),
}

const KafkaVariables = Type.Object(KAFKA_VARIABLES)

/** What the variables have to be together. @throws SignetError CONFIG_INVALID */
export function checkKafkaVariables(values: Static<typeof KafkaVariables>): void {
  const { SIGNET_KAFKA_SASL_MECHANISM: mechanism, SIGNET_KAFKA_TLS: tls } = values
  const together = [
    ['SIGNET_KAFKA_SASL_MECHANISM', 'SIGNET_KAFKA_SASL_USERNAME', 'SIGNET_KAFKA_SASL_PASSWORD_FILE'],
    ['SIGNET_KAFKA_TLS_CERT', 'SIGNET_KAFKA_TLS_KEY'],
  ] as const
  for (const names of together) {
    const set = names.filter((name) => values[name] !== undefined)
    if (set.length !== 0 && set.length !== names.length)
      throw new SignetError(
        'CONFIG_INVALID',
        `${names.slice(0, -1).join(', ')} and ${names.at(-1)} must be set together`,
      )
  }
  const idle = (['SIGNET_KAFKA_TLS_CA', 'SIGNET_KAFKA_TLS_CERT'] as const).find((name) => values[name] !== undefined)
  if (tls === 'off' && idle !== undefined)
    throw new SignetError('CONFIG_INVALID', `${idle} is set, and SIGNET_KAFKA_TLS is not on`)
  if (tls === 'off' && mechanism === 'PLAIN')
    throw new SignetError(
      'CONFIG_INVALID',
      'SIGNET_KAFKA_SASL_MECHANISM is PLAIN, which sends the password as it is: SIGNET_KAFKA_TLS must be on',
    )
}
