import { X509Certificate } from 'node:crypto'
import { SignetError } from '#core/error/signet-error.ts'
import type { IdentityAnswer } from '#core/identity/exchange.ts'
import { parseKeyring, type Keyring } from '#core/keyring/keyring.ts'
import type { StampKey } from '#core/keyring/schema.ts'
import type { KeyPair } from './client.ts'

/** Former keys that stay to verify what was stamped with them: at two a day, two weeks. */
const MAX_FORMER = 28

/**
 * The keyring of a proxy after an exchange: the new stamp key first, which signs from now on, then those of former exchanges, newest
 * first, and the ledger's acknowledgement keys.
 * @throws SignetError LEDGER_RESPONSE_INVALID when what was issued cannot be used
 */
export function issuedKeyring(answer: IdentityAnswer, former: Keyring | null): Keyring {
  const issued: StampKey = {
    use: 'stamp',
    alg: 'HMAC-SHA256',
    tenant: answer.tenant,
    producer_id: answer.producer_id,
    ...answer.stamp_key,
  }
  const stampKeys = (former?.keys ?? []).filter((key) => key.use === 'stamp' && key.key_id !== issued.key_id)
  const keyring: Keyring = {
    version: 1,
    keys: [issued, ...stampKeys.slice(0, MAX_FORMER), ...answer.ack_keys],
  }
  try {
    return parseKeyring(JSON.stringify(keyring))
  } catch (cause) {
    throw new SignetError('LEDGER_RESPONSE_INVALID', 'The keys that the ledger issued are none', { cause })
  }
}

/** The proxy's own Ed25519 key and what vouches for it: for signing statements (DSSE). The private key is in memory only. */
export type WorkloadCertificate = KeyPair & {
  /** PEM, ours first. */
  readonly chain: string
  /** Milliseconds since the epoch. */
  readonly notAfterMs: number
}

/** @throws SignetError LEDGER_RESPONSE_INVALID when the certificate is not for our key */
export function issuedCertificate(answer: IdentityAnswer, pair: KeyPair): WorkloadCertificate {
  let certificate: X509Certificate
  try {
    certificate = new X509Certificate(answer.certificate)
  } catch (cause) {
    throw new SignetError('LEDGER_RESPONSE_INVALID', 'The certificate that the ledger issued is none', { cause })
  }
  if (!certificate.publicKey.equals(pair.publicKey))
    throw new SignetError('LEDGER_RESPONSE_INVALID', 'The certificate that the ledger issued is not for our key')
  return { ...pair, chain: answer.certificate, notAfterMs: certificate.validToDate.getTime() }
}
