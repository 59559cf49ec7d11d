import { AuthenticationError, MultipleErrors, NetworkError, ProtocolError } from '@platformatic/kafka'
import { expect, it } from 'vitest'
import { SignetError } from '#core/error/signet-error.ts'
import { kafkaError } from './refusal.ts'

/** As the client packs it: an error for each attempt, and what happened as its cause. */
const packed = (cause: Error): Error =>
  new MultipleErrors('initProducerId failed 3 times.', [
    new MultipleErrors('Cannot connect to any broker.', [new NetworkError('Connection to b:1 failed.', { cause })]),
  ])
const tlsError = (code: string): Error => Object.assign(new Error('no'), { code })
const circular = new Error('round')
circular.cause = circular

it.each<{ name: string; error: unknown; wantCode: string; wantWords: string }>([
  {
    name: 'a wrong password',
    error: packed(new AuthenticationError('no', { cause: new ProtocolError('SASL_AUTHENTICATION_FAILED') })),
    wantCode: 'KAFKA_REFUSED',
    wantWords: 'SIGNET_KAFKA_SASL_PASSWORD_FILE',
  },
  {
    name: 'a topic that is not allowed',
    error: new MultipleErrors('no', [new ProtocolError('TOPIC_AUTHORIZATION_FAILED')]),
    wantCode: 'KAFKA_REFUSED',
    wantWords: 'Kafka refused writing to the topic t: its ACLs do not allow the topic',
  },
  {
    name: 'a certificate of another authority',
    error: packed(tlsError('UNABLE_TO_VERIFY_LEAF_SIGNATURE')),
    wantCode: 'KAFKA_REFUSED',
    wantWords: 'SIGNET_KAFKA_TLS_CA',
  },
  {
    name: 'a certificate of another name',
    error: packed(tlsError('ERR_TLS_CERT_ALTNAME_INVALID')),
    wantCode: 'KAFKA_REFUSED',
    wantWords: 'ERR_TLS_CERT_ALTNAME_INVALID',
  },
  {
    name: 'a broker that is away',
    error: packed(tlsError('ECONNREFUSED')),
    wantCode: 'KAFKA_UNAVAILABLE',
    wantWords: 'Connection to b:1 failed.; no',
  },
  { name: 'causes that go round', error: circular, wantCode: 'KAFKA_UNAVAILABLE', wantWords: 'round' },
  { name: 'what is no error', error: 'x', wantCode: 'KAFKA_UNAVAILABLE', wantWords: 'writing to the topic t' },
  {
    name: 'an error of ours',
    error: new SignetError('LEDGER_BUSY', 'later'),
    wantCode: 'LEDGER_BUSY',
    wantWords: 'later',
  },
])('$name: $wantCode', ({ error, wantCode, wantWords }) => {
  const told = kafkaError(error, 'writing to the topic t')
  expect(told.code).toBe(wantCode)
  expect(told.message).toContain(wantWords)
})
