import { createPublicKey, type KeyObject } from 'node:crypto'
import type { LedgerKeys } from '../keys.ts'

/** Keys that this ledger signs with, or did: those that its manifests and checkpoints are checked with. */
export function publicKeysOf(keys: Pick<LedgerKeys, 'publicAckKeys'>): KeyObject[] {
  return keys
    .publicAckKeys()
    .map(({ public_key }) =>
      createPublicKey({ key: Buffer.from(public_key, 'base64url'), format: 'der', type: 'spki' }),
    )
}
