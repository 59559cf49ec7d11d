import type { KeyObject } from 'node:crypto'
import { mark } from '#core/chain/mark.ts'
import { SignetError } from '#core/error/signet-error.ts'
import {
  indexKeyring,
  parseKeyring,
  type ActiveAckKey,
  type ActiveChainKey,
  type ActiveSealMaster,
  type ActiveStampKey,
  type ActiveStampRoot,
  type ActiveWorkloadCa,
  type Keyring,
} from '#core/keyring/keyring.ts'
import type { AckKey, WorkloadCa } from '#core/keyring/schema.ts'

/** A keyed hash (HMAC-SHA256) that names something without showing it; `use` keeps one kind of name from being another's. */
export type Mark = (use: 'trace' | 'received' | 'event' | 'ledger-trace', ...parts: string[]) => Buffer

/** Certificates, and the use of stamp keys, are issued for this long at most. */
export const ISSUED_LIFETIME_MS = 24 * 60 * 60 * 1_000

export type LedgerKeys = {
  readonly mark: Mark
  /** The key a link was chained with, whether or not it may still chain. */
  chainKey(keyId: string): ActiveChainKey | undefined
  /** @throws SignetError LEDGER_KEY_UNAVAILABLE when none is valid at that time */
  activeChainKey(at: Date): ActiveChainKey
  /** @throws SignetError LEDGER_KEY_UNAVAILABLE when none is valid at that time */
  ackKey(at: Date): ActiveAckKey & { readonly privateKey: KeyObject }
  /** A stamp key of the keyring, or one that is derived from a root of it. */
  stampKey(keyId: string): ActiveStampKey | undefined
  /** The root that stamp keys are derived from now; null where none is valid at that time. */
  stampRoot(at: Date): ActiveStampRoot | null
  /** @throws SignetError LEDGER_KEY_UNAVAILABLE when none is valid at that time */
  workloadCa(at: Date): ActiveWorkloadCa & { readonly privateKey: KeyObject }
  /** A key that wrapped the keys of data subjects, whether or not it may still wrap. */
  sealMaster(keyId: string): ActiveSealMaster | undefined
  /** The key that wraps them now; null where none is valid at that time. */
  activeSealMaster(at: Date): ActiveSealMaster | null
  /** What a producer needs to check acknowledgements. */
  publicAckKeys(): readonly Omit<AckKey, 'private_key'>[]
  /** The authorities that certificates of workloads go back to. */
  publicWorkloadCas(): readonly Omit<WorkloadCa, 'private_key'>[]
}

/**
 * The keys of a ledger. Links are chained with the chain key of their day; marks always with the chain key of the earliest
 * `not_before`, so that a retry and a trace are still recognised after keys have rotated (no chain key may ever leave the keyring
 * anyway: its links could not be verified any more).
 * @throws SignetError KEYRING_INVALID when it has no chain key or no ack key to sign with
 */
export function ledgerKeys(keyringText: string): LedgerKeys {
  return keysOf(parseKeyring(keyringText))
}

/**
 * The same, and `replace`, which takes another keyring over from then on.
 * `replace` throws SignetError KEYRING_INVALID, and nothing changes, when the keyring cannot be one that follows: it is none, or lacks a chain
 * key of the former or has another first one.
 */
export function replaceableKeys(keyringText: string): LedgerKeys & { replace(keyringText: string): void } {
  let keyring = parseKeyring(keyringText)
  let current = keysOf(keyring)
  return {
    mark: (use, ...parts) => current.mark(use, ...parts),
    chainKey: (keyId) => current.chainKey(keyId),
    activeChainKey: (at) => current.activeChainKey(at),
    ackKey: (at) => current.ackKey(at),
    stampKey: (keyId) => current.stampKey(keyId),
    stampRoot: (at) => current.stampRoot(at),
    workloadCa: (at) => current.workloadCa(at),
    sealMaster: (keyId) => current.sealMaster(keyId),
    activeSealMaster: (at) => current.activeSealMaster(at),
    publicAckKeys: () => current.publicAckKeys(),
    publicWorkloadCas: () => current.publicWorkloadCas(),
    replace(text) {
      const next = parseKeyring(text)
      checkChainKeysStay(chainKeysOf(keyring), chainKeysOf(next))
      current = keysOf(next)
      keyring = next
    },
  }
}

function keysOf(keyring: Keyring): LedgerKeys {
  const index = indexKeyring(keyring)
  const [first] = chainKeysOf(keyring)
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
  const publicAckKeys = keyring.keys.flatMap((key) => {
    if (key.use !== 'ack') return []
    const { private_key: _, ...shown } = key
    return [shown]
  })
  const publicWorkloadCas = keyring.keys.flatMap((key) => {
    if (key.use !== 'workload-ca') return []
    const { private_key: _, ...shown } = key
    return [shown]
  })
  return {
    mark: (use, ...parts) => mark(marking, use, ...parts),
    chainKey: (keyId) => index.chainKey(keyId),
    activeChainKey: (at) => validNow(index.activeChainKey(at), 'chain', at),
    ackKey(at) {
      const key = validNow(index.activeAckKey(at), 'ack', at)
      if (key.privateKey === null) throw new SignetError('INTERNAL', 'an ack key without a private key was chosen')
      return { ...key, privateKey: key.privateKey }
    },
    stampKey: (keyId) => index.stampKey(keyId),
    stampRoot: (at) => index.activeStampRoot(at, aLifetimeAfter(at)) ?? null,
    workloadCa(at) {
      const ca = validNow(index.activeWorkloadCa(at, aLifetimeAfter(at)), 'workload-ca', at)
      if (ca.privateKey === null) throw new SignetError('INTERNAL', 'an authority without a private key was chosen')
      return { ...ca, privateKey: ca.privateKey }
    },
    sealMaster: (keyId) => index.sealMaster(keyId),
    activeSealMaster: (at) => index.activeSealMaster(at) ?? null,
    publicAckKeys: () => publicAckKeys,
    publicWorkloadCas: () => publicWorkloadCas,
  }
}

/** What ends sooner than what is issued with it gives way to its successor in time. */
function aLifetimeAfter(at: Date): Date {
  return new Date(at.getTime() + ISSUED_LIFETIME_MS)
}

type ChainKeyEntry = Extract<Keyring['keys'][number], { use: 'chain' }>

function chainKeysOf(keyring: Keyring): ChainKeyEntry[] {
  return keyring.keys.filter((key) => key.use === 'chain').sort((a, b) => (a.not_before < b.not_before ? -1 : 1))
}

function checkChainKeysStay(former: readonly ChainKeyEntry[], next: readonly ChainKeyEntry[]): void {
  const gone = former.find((key) => !next.some(({ key_id, secret }) => key_id === key.key_id && secret === key.secret))
  if (gone !== undefined) {
    throw new SignetError(
      'KEYRING_INVALID',
      `the keyring lacks the chain key «${gone.key_id}», or has another secret for it; chain keys stay for ever`,
    )
  }
  if (former[0]?.key_id !== next[0]?.key_id) {
    throw new SignetError(
      'KEYRING_INVALID',
      `the keyring has «${next[0]?.key_id}» as its first chain key, by not_before; that has to stay «${former[0]?.key_id}»`,
    )
  }
}

function validNow<K>(key: K | undefined, use: string, at: Date): K {
  if (key !== undefined) return key
  throw new SignetError(
    'LEDGER_KEY_UNAVAILABLE',
    `no key with use "${use}" in the ledger's keyring is valid at ${at.toISOString()}`,
  )
}
