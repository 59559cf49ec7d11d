import { expect, it } from 'vitest'
import { checkKafkaVariables } from './variables.ts'

const SASL = {
  SIGNET_KAFKA_SASL_MECHANISM: 'SCRAM-SHA-256',
  SIGNET_KAFKA_SASL_USERNAME: 'ledger',
  SIGNET_KAFKA_SASL_PASSWORD_FILE: '/p',
} as const
const BASE = { SIGNET_KAFKA_TLS: 'off', SIGNET_KAFKA_MAX_MESSAGE_BYTES: 1, SIGNET_KAFKA_INGEST_GROUP: 'g' } as const
const ON = { SIGNET_KAFKA_TLS: 'on' } as const

it.each<{ name: string; over: object; wantNamed: string | null }>([
  { name: 'nothing', over: {}, wantNamed: null },
  { name: 'SCRAM without TLS', over: SASL, wantNamed: null },
  { name: 'PLAIN over TLS', over: { ...SASL, ...ON, SIGNET_KAFKA_SASL_MECHANISM: 'PLAIN' }, wantNamed: null },
  { name: 'PLAIN without TLS', over: { ...SASL, SIGNET_KAFKA_SASL_MECHANISM: 'PLAIN' }, wantNamed: 'SIGNET_KAFKA_TLS' },
  { name: 'a name alone', over: { SIGNET_KAFKA_SASL_USERNAME: 'x' }, wantNamed: 'SIGNET_KAFKA_SASL_PASSWORD_FILE' },
  { name: 'a certificate', over: { ...ON, SIGNET_KAFKA_TLS_CERT: '/c', SIGNET_KAFKA_TLS_KEY: '/k' }, wantNamed: null },
  { name: 'a certificate alone', over: { ...ON, SIGNET_KAFKA_TLS_CERT: '/c' }, wantNamed: 'SIGNET_KAFKA_TLS_KEY' },
  { name: 'an authority that nobody asks', over: { SIGNET_KAFKA_TLS_CA: '/c' }, wantNamed: 'SIGNET_KAFKA_TLS_CA' },
])('$name', ({ over, wantNamed }) => {
  const check = () => checkKafkaVariables({ ...BASE, ...over })
  if (wantNamed === null) expect(check).not.toThrow()
  else expect(check).toThrow(wantNamed)
})
