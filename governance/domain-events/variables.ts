import Type from 'typebox'
import { SignetError } from '#core/error/signet-error.ts'
import type { KafkaSettings } from '#runtime/kafka/connection.ts'

const PREFIX = 'SIGNET_GOVERNANCE_KAFKA'

/** Where domain events go (docs/domain-events.md). */
export const DOMAIN_EVENT_VARIABLES = {
  SIGNET_GOVERNANCE_KAFKA_BOOTSTRAP_SERVERS: Type.Optional(
    Type.String({
      pattern: '^[^\\s,:]+:[0-9]{1,5}(,[^\\s,:]+:[0-9]{1,5})*$',
      allowed: 'HOST:PORT, several with commas between',
      description: 'Kafka brokers to begin with, for domain events. None are kept or sent where unset.',
    }),
  ),
  SIGNET_GOVERNANCE_KAFKA_TOPIC: Type.Optional(
    Type.String({
      pattern: '^[a-zA-Z0-9._-]{1,249}$',
      allowed: 'the name of a topic',
      description: 'Topic that domain events go to, as CloudEvents; it has to be there.',
    }),
  ),
  SIGNET_GOVERNANCE_KAFKA_TLS: Type.Enum(['off', 'on'], {
    default: 'off',
    description: 'Whether these brokers are spoken to over TLS.',
  }),
  SIGNET_GOVERNANCE_KAFKA_TLS_CA: Type.Optional(
    Type.String({
      minLength: 1,
      description: 'PEM file with the authorities of these brokers; those of Node where unset.',
    }),
  ),
  SIGNET_GOVERNANCE_KAFKA_TLS_CERT: Type.Optional(
    Type.String({
      minLength: 1,
      description: 'PEM file with the certificate by which governance says who it is to the brokers. None where unset.',
    }),
  ),
  SIGNET_GOVERNANCE_KAFKA_TLS_KEY: Type.Optional(Type.String({ minLength: 1, description: 'PEM file with its key.' })),
  SIGNET_GOVERNANCE_KAFKA_SASL_MECHANISM: Type.Optional(
    Type.Enum(['PLAIN', 'SCRAM-SHA-256', 'SCRAM-SHA-512'], {
      description: 'How governance says who it is to the brokers; not at all where unset.',
    }),
  ),
  SIGNET_GOVERNANCE_KAFKA_SASL_USERNAME: Type.Optional(Type.String({ minLength: 1, description: 'Its name there.' })),
  SIGNET_GOVERNANCE_KAFKA_SASL_PASSWORD_FILE: Type.Optional(
    Type.String({ minLength: 1, description: 'File with its password there.' }),
  ),
  SIGNET_GOVERNANCE_KAFKA_KEEP_HOURS: Type.Integer({
    default: 168,
    minimum: 1,
    maximum: 24 * 90,
    description:
      'How long domain events wait for brokers that are away, and a million of a tenant at most; then the oldest are lost, which is told.',
  }),
}

type Values = Type.Static<Type.TObject<typeof DOMAIN_EVENT_VARIABLES>>

/** @throws SignetError CONFIG_INVALID: variables that go together are not all there */
export function requireWholeKafka(values: Values): void {
  const together = (names: readonly (keyof Values)[]): void => {
    const set = names.filter((name) => values[name] !== undefined)
    if (set.length !== 0 && set.length !== names.length)
      throw new SignetError(
        'CONFIG_INVALID',
        `${names.join(', ').replace(/, (?=[^,]*$)/, ' and ')} must be set together`,
      )
  }
  together([`${PREFIX}_BOOTSTRAP_SERVERS`, `${PREFIX}_TOPIC`])
  together([`${PREFIX}_TLS_CERT`, `${PREFIX}_TLS_KEY`])
  const { SIGNET_GOVERNANCE_KAFKA_TLS: tls, SIGNET_GOVERNANCE_KAFKA_SASL_MECHANISM: mechanism } = values
  const idle = ([`${PREFIX}_TLS_CA`, `${PREFIX}_TLS_CERT`] as const).find((name) => values[name] !== undefined)
  if (tls === 'off' && idle !== undefined)
    throw new SignetError('CONFIG_INVALID', `${idle} is set, and ${PREFIX}_TLS is not on`)
  if (tls === 'off' && mechanism === 'PLAIN')
    throw new SignetError(
      'CONFIG_INVALID',
      `${PREFIX}_SASL_MECHANISM is PLAIN, which sends the password as it is: ${PREFIX}_TLS must be on`,
    )
  together([`${PREFIX}_SASL_MECHANISM`, `${PREFIX}_SASL_USERNAME`, `${PREFIX}_SASL_PASSWORD_FILE`])
}

export function kafkaSettings(values: Values): KafkaSettings {
  return {
    prefix: PREFIX,
    servers: values.SIGNET_GOVERNANCE_KAFKA_BOOTSTRAP_SERVERS,
    tls: values.SIGNET_GOVERNANCE_KAFKA_TLS,
    caFile: values.SIGNET_GOVERNANCE_KAFKA_TLS_CA,
    certFile: values.SIGNET_GOVERNANCE_KAFKA_TLS_CERT,
    keyFile: values.SIGNET_GOVERNANCE_KAFKA_TLS_KEY,
    mechanism: values.SIGNET_GOVERNANCE_KAFKA_SASL_MECHANISM,
    username: values.SIGNET_GOVERNANCE_KAFKA_SASL_USERNAME,
    passwordFile: values.SIGNET_GOVERNANCE_KAFKA_SASL_PASSWORD_FILE,
  }
}
