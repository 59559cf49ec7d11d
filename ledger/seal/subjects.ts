import { randomUUID } from 'node:crypto'
import { SignetError } from '#core/error/signet-error.ts'
import { SEAL_KEY_BYTES, SEAL_NONCE_BYTES, SealKey } from '#core/seal/cipher.ts'
import type { Subject } from '#core/seal/event.ts'
import { nameIndex, sealName } from '#core/seal/wrap.ts'
import { unavailable, type Pool } from '#runtime/postgres/transaction.ts'
import type { SubjectCache } from './cache.ts'
import type { Wrapping } from './master.ts'
import { addSubjects, findByIndex, findIndexKey, keepIndexKey, type SubjectRow } from './store.ts'

/** Index keys of tenants, kept while the process runs: they are random, and one a tenant. */
const MAX_TENANTS = 10_000

export type SubjectsDeps = {
  readonly work: Pool
  readonly wrapping: Wrapping
  readonly cache: SubjectCache
  readonly clock: () => Date
  readonly randomBytes: (length: number) => Buffer
}

/** Data subjects by name, all names in canonical form (`canonicalName`). */
export class Subjects {
  readonly #deps: SubjectsDeps
  readonly #indexKeys = new Map<string, SealKey>()

  constructor(deps: SubjectsDeps) {
    this.#deps = deps
  }

  /** Those that are known. @throws SignetError SEAL_KEY_UNAVAILABLE, DATABASE_UNAVAILABLE for a name that was not seen lately */
  async find(tenant: string, names: Iterable<string>): Promise<Map<string, Subject>> {
    const { cache } = this.#deps
    const subjects = new Map<string, Subject>()
    const sought: string[] = []
    for (const name of names) {
      const kept = cache.fresh(tenant, name)
      if (kept === undefined) sought.push(name)
      else subjects.set(name, kept)
    }
    if (sought.length === 0) return subjects
    try {
      const indexKey = await this.#knownIndexKey(tenant)
      if (indexKey === null) return subjects
      const found = await this.#byIndex(tenant, indexesOf(indexKey, tenant, sought))
      for (const [name, subject] of found) subjects.set(name, subject)
    } catch (error) {
      // While nobody can be asked, what was known lately has to do: an erasure needs the same database.
      if (unavailable(error) === null) throw error
      for (const name of sought) {
        const kept = cache.stale(tenant, name)
        if (kept === undefined) throw error
        subjects.set(name, kept)
      }
    }
    return subjects
  }

  /** All of them; who is not known is added. @throws SignetError SEAL_KEY_UNAVAILABLE, DATABASE_UNAVAILABLE, LEDGER_BUSY */
  async add(tenant: string, names: Iterable<string>): Promise<Map<string, Subject>> {
    const { work, clock } = this.#deps
    const indexes = indexesOf(await this.#indexKey(tenant), tenant, names)
    const subjects = new Map<string, Subject>()
    // Between adding and looking, another process may erase somebody: then once more.
    for (let attempt = 0; attempt < 3 && indexes.size > 0; attempt++) {
      const rows = [...indexes].map(([hex, name]) => this.#newRow(tenant, name, Buffer.from(hex, 'hex')))
      await addSubjects(work, tenant, rows, clock())
      for (const [name, subject] of await this.#byIndex(tenant, indexes)) subjects.set(name, subject)
      for (const [hex, name] of indexes) if (subjects.has(name)) indexes.delete(hex)
    }
    if (indexes.size > 0) throw new SignetError('LEDGER_BUSY', 'data subjects come and go; try again shortly')
    return subjects
  }

  /** What a name is looked up by; null where the tenant has nobody. @throws SignetError SEAL_KEY_UNAVAILABLE, DATABASE_UNAVAILABLE */
  async indexOf(tenant: string, name: string): Promise<Buffer | null> {
    const indexKey = await this.#knownIndexKey(tenant)
    return indexKey === null ? null : nameIndex(indexKey, tenant, name)
  }

  /** Somebody whom nobody will ever know: for what is sealed and thrown away. */
  throwaway(): Subject {
    return { subjectId: randomUUID(), key: new SealKey(this.#deps.randomBytes(SEAL_KEY_BYTES)) }
  }

  async #byIndex(tenant: string, indexes: ReadonlyMap<string, string>): Promise<Map<string, Subject>> {
    const { work, wrapping, cache } = this.#deps
    const found = new Map<string, Subject>()
    for (const row of await findByIndex(
      work,
      tenant,
      [...indexes.keys()].map((hex) => Buffer.from(hex, 'hex')),
    )) {
      const name = indexes.get(row.nameIndex.toString('hex'))
      if (name === undefined) continue
      const subject = { subjectId: row.subjectId, key: wrapping.unwrapSubject(tenant, row) }
      cache.keep(tenant, name, subject)
      found.set(name, subject)
    }
    return found
  }

  #newRow(tenant: string, name: string, index: Buffer): Omit<SubjectRow, 'createdAt'> {
    const { wrapping, randomBytes } = this.#deps
    const { subjectId, key } = this.throwaway()
    return {
      subjectId,
      nameIndex: index,
      ...wrapping.wrapSubject(tenant, subjectId, key),
      sealedName: sealName(key, tenant, subjectId, name, randomBytes(SEAL_NONCE_BYTES)),
    }
  }

  async #indexKey(tenant: string): Promise<SealKey> {
    const { work, wrapping } = this.#deps
    const kept = this.#indexKeys.get(tenant)
    if (kept !== undefined) return kept
    const row = await keepIndexKey(work, tenant, () => wrapping.makeIndexKey(tenant))
    return this.#remember(tenant, wrapping.unwrapIndexKey(tenant, row))
  }

  async #knownIndexKey(tenant: string): Promise<SealKey | null> {
    const kept = this.#indexKeys.get(tenant)
    if (kept !== undefined) return kept
    const row = await findIndexKey(this.#deps.work, tenant)
    return row === null ? null : this.#remember(tenant, this.#deps.wrapping.unwrapIndexKey(tenant, row))
  }

  #remember(tenant: string, key: SealKey): SealKey {
    if (this.#indexKeys.size >= MAX_TENANTS) this.#indexKeys.delete(this.#indexKeys.keys().next().value ?? '')
    this.#indexKeys.set(tenant, key)
    return key
  }
}

/** Names by the hex of their index. */
function indexesOf(indexKey: SealKey, tenant: string, names: Iterable<string>): Map<string, string> {
  return new Map(Array.from(names, (name) => [nameIndex(indexKey, tenant, name).toString('hex'), name]))
}
