import { randomBytes } from 'node:crypto'
import { sha256 } from '#core/crypto/digest.ts'
import { SignetError } from '#core/error/signet-error.ts'
import { checkProof, type IdentityAnswer, type IdentityRequest } from '#core/identity/exchange.ts'
import { dayOf, formatDerivedKeyId } from '#core/keyring/derived.ts'
import type { ActiveStampKey } from '#core/keyring/keyring.ts'
import type { Identity } from '#runtime/identity/token.ts'
import { ISSUED_LIFETIME_MS, type LedgerKeys } from '../keys.ts'
import { throwRefusal } from '../refusal.ts'
import type { Sequencer } from '../sequencer.ts'
import { issueCertificate } from './certificate.ts'

export type IssueDeps = {
  readonly keys: LedgerKeys
  readonly sequencer: Sequencer
  readonly clock: () => Date
  readonly trustDomain: string
}

/** Clocks of workloads may be late by this much. */
const EARLY_MS = 300_000

/**
 * Hands a workload its stamp key and a certificate for the key that it proved to hold. What is handed out is in the chain first.
 * @throws SignetError FORBIDDEN (not a pod, or no producer), IDENTITY_PROOF_INVALID, IDENTITY_REPLAYED, LEDGER_KEY_UNAVAILABLE,
 * DATABASE_UNAVAILABLE
 */
export async function issueIdentity(
  deps: IssueDeps,
  identity: Identity,
  token: string,
  request: IdentityRequest,
): Promise<IdentityAnswer> {
  const { keys, sequencer, clock, trustDomain } = deps
  const { tenant, producerId, workload } = identity
  if (workload === null || workload.pod === null || producerId === null) {
    throw new SignetError('FORBIDDEN', `${identity.name} gets no identity here: only the token of a running pod does`)
  }
  const at = clock()
  const { publicKey, publicKeyDer, proofDigest } = checkProof(request, token, at)
  const stampKey = stampKeyOf(keys, tenant, producerId, at)
  const ca = keys.workloadCa(at)
  const start = at.getTime() - EARLY_MS
  const notBefore = new Date(start)
  const notAfter = new Date(Math.min(start + ISSUED_LIFETIME_MS, Date.parse(ca.notAfter), endOf(stampKey)))
  const { namespace, serviceAccount, pod } = workload
  const certificate = await issueCertificate(
    ca,
    publicKey,
    { trustDomain, namespace, serviceAccount, tenant, producerId },
    // Certificates have whole seconds (RFC 5280, section 4.1.2.5).
    { notBefore: wholeSecond(notBefore), notAfter: wholeSecond(notAfter) },
    randomBytes,
  )
  const outcome = await sequencer.append({
    producer: { tenant, producerId },
    entries: [
      {
        kind: 'issue',
        proofDigest,
        keyId: stampKey.keyId,
        certificate,
        publicKeyDigest: sha256(publicKeyDer),
        workload: { namespace, serviceAccount, pod },
      },
    ],
  })
  throwRefusal(outcome)
  const until = wholeSecond(notAfter)
  return {
    version: 1,
    tenant,
    producer_id: producerId,
    stamp_key: {
      key_id: stampKey.keyId,
      secret: stampKey.secret.export().toString('base64url'),
      not_before: stampKey.notBefore,
      not_after: until.toISOString(),
    },
    certificate: certificate.chain,
    ack_keys: [...keys.publicAckKeys()],
    renew_at: new Date(at.getTime() + (until.getTime() - at.getTime()) / 2).toISOString(),
  }
}

/** The key of a producer that is in force. @throws SignetError LEDGER_KEY_UNAVAILABLE */
function stampKeyOf(keys: LedgerKeys, tenant: string, producerId: string, at: Date): ActiveStampKey {
  const root = keys.stampRoot(at)
  const keyId = root === null ? '' : formatDerivedKeyId({ rootKeyId: root.keyId, day: dayOf(at), tenant, producerId })
  const key = keys.stampKey(keyId)
  if (key !== undefined) return key
  throw new SignetError(
    'LEDGER_KEY_UNAVAILABLE',
    `no key with use "stamp-root" in the ledger's keyring is valid at ${at.toISOString()}`,
  )
}

function endOf(key: ActiveStampKey): number {
  return Math.min(Date.parse(key.notAfter), key.revokedAt === null ? Infinity : Date.parse(key.revokedAt))
}

function wholeSecond(time: Date): Date {
  return new Date(Math.floor(time.getTime() / 1_000) * 1_000)
}
