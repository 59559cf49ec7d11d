import { createHmac } from 'node:crypto'
import { pae } from '#core/crypto/pae.ts'
import { SignetError } from '#core/error/signet-error.ts'
import { indexKeyring, parseKeyring, type ActiveAckKey, type ActiveChainKey } from '#core/keyring/keyring.ts'

/** A keyed hash (HMAC-SHA256) that names something without showing it; `use` keeps one kind of name from being another's. */
export type Mark = (use: 'trace' | 'received' | 'event' | 'ledger-trace', ...parts: string[]) => Buffer

export type LedgerKeys = {
  readonly mark: Mark
  /** The key a link was chained with, whether or not it may still chain. */
  chainKey(keyId: string): ActiveChainKey | undefined
  /** @throws SignetError LEDGER_KEY_UNAVAILABLE when none is valid at that time */
  activeChainKey(at: Date): ActiveChainKey
  /** @throws SignetError LEDGER_KEY_UNAVAILABLE when none is valid at that time */
  ackKey(at: Date): ActiveAckKey
}

/**
 * The keys of a ledger. Links are chained with the chain key of their day; marks always with the chain key of the earliest
 * `not_before`, so that a retry and a trace are still recognised after keys have rotated (no chain key may ever leave the keyring
 * anyway: its links could not be verified any more).
 * @throws SignetError KEYRING_INVALID when it has no chain key or no ack key to sign with
 */
export function ledgerKeys(keyringText: string): LedgerKeys {
  const keyring = parseKeyring(keyringText)
  const index = indexKeyring(keyring)
  const chainKeys = keyring.keys
    .filter((key) => key.use === 'chain')
    .sort((a, b) => (a.not_before < b.not_before ? -1 : 1))
  const [first] = chainKeys
  const marking = first === undefined ? undefined : index.chainKey(first.key_id)?.secret
  if (marking === undefined)
    throw new SignetError(
      'KEYRING_INVALID',
      'the keyring has no key with use "chain"; the ledger chains its links with one',
    )
  if (!keyring.keys.some((key) => key.use === 'ack' && key.private_key !== undefined)) {
    throw new SignetError(
      'KEYRING_INVALID',
      'the keyring has no key with use "ack" and a private_key; the ledger signs acknowledgements with one',
    )
  }
  return {
    mark: (use, ...parts) =>
      createHmac('sha256', marking)
        .update(pae('SignetV1', `application/vnd.signet.mark.${use}.v1`, ...parts))
        .digest(),
    chainKey: (keyId) => index.chainKey(keyId),
    activeChainKey: (at) => validNow(index.activeChainKey(at), 'chain', at),
    ackKey: (at) => validNow(index.activeAckKey(at), 'ack', at),
  }
}

function validNow<K>(key: K | undefined, use: string, at: Date): K {
  if (key !== undefined) return key
  throw new SignetError(
    'LEDGER_KEY_UNAVAILABLE',
    `no key with use "${use}" in the ledger's keyring is valid at ${at.toISOString()}`,
  )
}
