import { SignetError } from '#core/error/signet-error.ts'
import { SEAL_NONCE_BYTES, SealKey } from '#core/seal/cipher.ts'
import {
  openName,
  unwrapIndexKey,
  unwrapSubjectKey,
  wrapIndexKey,
  wrapSubjectKey,
  type WrappedSubject,
} from '#core/seal/wrap.ts'
import type { Pool } from '#runtime/postgres/transaction.ts'
import type { LedgerKeys } from '../keys.ts'
import { findUnderOthers, rewrapIndexKey, rewrapSubject, sampleIndexKeys, type IndexKeyRow } from './store.ts'

export type MasterKeys = Pick<LedgerKeys, 'sealMaster' | 'activeSealMaster'>

/** What wraps keys and opens wrapped ones, by the master keys of the keyring. */
export class Wrapping {
  readonly #masters: MasterKeys
  readonly #clock: () => Date
  readonly #randomBytes: (length: number) => Buffer

  constructor(deps: { masters: MasterKeys; clock: () => Date; randomBytes: (length: number) => Buffer }) {
    this.#masters = deps.masters
    this.#clock = deps.clock
    this.#randomBytes = deps.randomBytes
  }

  /** @throws SignetError SEAL_KEY_UNAVAILABLE when no master key is valid now */
  active(): { readonly keyId: string; readonly key: SealKey } {
    const at = this.#clock()
    const master = this.#masters.activeSealMaster(at)
    if (master !== null) return master
    throw new SignetError(
      'SEAL_KEY_UNAVAILABLE',
      `no key with use "seal-master" in the ledger's keyring is valid at ${at.toISOString()}`,
    )
  }

  wrapSubject(tenant: string, subjectId: string, key: SealKey): { masterKeyId: string; wrappedKey: Buffer } {
    const master = this.active()
    return { masterKeyId: master.keyId, wrappedKey: wrapSubjectKey(master.key, tenant, subjectId, key, this.#nonce()) }
  }

  /** @throws SignetError SEAL_KEY_UNAVAILABLE naming the master key that is missing or another one */
  unwrapSubject(tenant: string, row: WrappedSubject): SealKey {
    return this.#opened(row.masterKeyId, (master) => unwrapSubjectKey(master, tenant, row.subjectId, row.wrappedKey))
  }

  /** Key and name. @throws SignetError SEAL_KEY_UNAVAILABLE */
  openSubject(tenant: string, row: WrappedSubject): { key: SealKey; name: string } {
    const key = this.unwrapSubject(tenant, row)
    return { key, name: this.#opened(row.masterKeyId, () => openName(key, tenant, row.subjectId, row.sealedName)) }
  }

  /** The same, null for a row that does not open. @throws SignetError SEAL_KEY_UNAVAILABLE where the keyring lacks its master key */
  tryOpenSubject(tenant: string, row: WrappedSubject): { key: SealKey; name: string } | null {
    return this.#whole(row.masterKeyId, () => this.openSubject(tenant, row))
  }

  makeIndexKey(tenant: string): IndexKeyRow {
    return this.#wrappedIndexKey(tenant, new SealKey(this.#randomBytes(32)))
  }

  /** @throws SignetError SEAL_KEY_UNAVAILABLE */
  unwrapIndexKey(tenant: string, row: IndexKeyRow): SealKey {
    return this.#opened(row.masterKeyId, (master) => unwrapIndexKey(master, tenant, row.wrappedIndexKey))
  }

  /**
   * That the keyring's master keys are those that the work database was written with. @throws SignetError SEAL_KEY_UNAVAILABLE naming the
   * first that is not, DATABASE_UNAVAILABLE
   */
  async check(work: Pool): Promise<void> {
    this.active()
    for (const { tenant, ...row } of await sampleIndexKeys(work)) this.unwrapIndexKey(tenant, row)
  }

  /**
   * Puts keys under the master key of now, `limit` at most: so that a former one can be taken away. How many it put there. Keys that do not
   * open with their master key stay as they are. @throws SignetError SEAL_KEY_UNAVAILABLE where the keyring lacks a master key
   */
  async rewrap(work: Pool, limit: number): Promise<number> {
    const { subjects, tenants } = await findUnderOthers(work, this.active().keyId, limit)
    let count = 0
    for (const { tenant, ...row } of tenants) {
      const key = this.#whole(row.masterKeyId, () => this.unwrapIndexKey(tenant, row))
      if (key === null) continue
      await rewrapIndexKey(work, tenant, row, this.#wrappedIndexKey(tenant, key))
      count += 1
    }
    for (const { tenant, ...row } of subjects) {
      const key = this.#whole(row.masterKeyId, () => this.unwrapSubject(tenant, row))
      if (key === null) continue
      await rewrapSubject(work, tenant, row, this.wrapSubject(tenant, row.subjectId, key))
      count += 1
    }
    return count
  }

  /** Null for what its master key does not open: one damaged row must not keep all others under a key that is to go. */
  #whole<T>(masterKeyId: string, open: () => T): T | null {
    try {
      return open()
    } catch (error) {
      if (this.#masters.sealMaster(masterKeyId) === undefined) throw error
      return null
    }
  }

  #wrappedIndexKey(tenant: string, key: SealKey): IndexKeyRow {
    const master = this.active()
    return { masterKeyId: master.keyId, wrappedIndexKey: wrapIndexKey(master.key, tenant, key, this.#nonce()) }
  }

  #opened<T>(masterKeyId: string, open: (master: SealKey) => T): T {
    const master = this.#masters.sealMaster(masterKeyId)
    if (master === undefined) {
      throw new SignetError(
        'SEAL_KEY_UNAVAILABLE',
        `the keyring has no seal-master «${masterKeyId}», which keys of data subjects are wrapped with`,
      )
    }
    try {
      return open(master.key)
    } catch (cause) {
      throw new SignetError(
        'SEAL_KEY_UNAVAILABLE',
        `what the seal-master «${masterKeyId}» wrapped does not open with the keyring's key of that name, or was changed`,
        { cause },
      )
    }
  }

  #nonce(): Buffer {
    return this.#randomBytes(SEAL_NONCE_BYTES)
  }
}
