import { GenericError } from '@platformatic/kafka'
import { SignetError } from '#core/error/signet-error.ts'

/** What no waiting mends, by the broker's name for it (https://kafka.apache.org/protocol#protocol_error_codes). `PREFIX`: of the process's variables. */
const REFUSALS: Readonly<Record<string, string>> = {
  SASL_AUTHENTICATION_FAILED: 'it does not know PREFIX_SASL_USERNAME with the password of PREFIX_SASL_PASSWORD_FILE',
  UNSUPPORTED_SASL_MECHANISM: 'it does not take PREFIX_SASL_MECHANISM',
  TOPIC_AUTHORIZATION_FAILED: 'its ACLs do not allow the topic',
  GROUP_AUTHORIZATION_FAILED: 'its ACLs do not allow the consumer group',
  CLUSTER_AUTHORIZATION_FAILED: 'its ACLs allow no topic to be written to',
  UNKNOWN_TOPIC_OR_PARTITION: 'the topic is not there',
}
/** Node's and OpenSSL's names for a certificate that is not believed. */
const UNTRUSTED =
  /^(UNABLE_TO_|CERT_|SELF_SIGNED_CERT|DEPTH_ZERO_SELF_SIGNED_CERT|INVALID_CA|HOSTNAME_MISMATCH|ERR_TLS_CERT_ALTNAME_INVALID)/
const MAX_FAULTS = 50
const MAX_WORDS = 500

/** A word for logs and metrics. KAFKA_REFUSED: somebody has to change something. KAFKA_UNAVAILABLE: it may mend by itself. `doing`: with what, for the reader; `prefix`: of the process's variables. */
export function kafkaError(thrown: unknown, doing: string, prefix = 'SIGNET_KAFKA'): SignetError {
  if (thrown instanceof SignetError) return thrown
  const faults = faultsOf(thrown)
  const refusal = faults.map(refusalOf).find((words) => words !== null)
  if (refusal !== undefined)
    return new SignetError('KAFKA_REFUSED', `Kafka refused ${doing}: ${refusal.replaceAll('PREFIX', prefix)}`, {
      cause: thrown,
    })
  const words = [...new Set(faults.map(({ message }) => message))].join('; ')
  return new SignetError('KAFKA_UNAVAILABLE', `Kafka does not do ${doing}: ${words.slice(0, MAX_WORDS)}`, {
    cause: thrown,
  })
}

/** The error and all that it was caused by, the outermost first. The client packs what happened into an error for each attempt. */
function faultsOf(thrown: unknown): Error[] {
  const faults: Error[] = []
  const waiting = [thrown]
  while (waiting.length > 0 && faults.length < MAX_FAULTS) {
    const error = waiting.shift()
    if (!(error instanceof Error)) continue
    faults.push(error)
    waiting.push(error.cause, ...(error instanceof AggregateError ? (error.errors as unknown[]) : []))
  }
  return faults
}

function refusalOf(error: Error): string | null {
  const { code } = error as NodeJS.ErrnoException
  if (code !== undefined && UNTRUSTED.test(code))
    return `the certificate of the broker is of no authority of PREFIX_TLS_CA, of another name, or at its end (${code})`
  if (!(error instanceof GenericError) || typeof error['apiId'] !== 'string') return null
  return REFUSALS[error['apiId']] ?? null
}
