import type { KeyObject } from 'node:crypto'
import { readRestore, type RestoreStatement } from '#core/archive/restore.ts'
import { SignetError } from '#core/error/signet-error.ts'
import { orNull, type ObjectStore } from './object-store.ts'

const FOLDER = 'restores/'
const KEY = /^restores\/(\d{6})$/
const MAX_STATEMENT_BYTES = 16 * 1024
const MAX_LISTED = 1_000

export function restoreKey(number: number): string {
  return `${FOLDER}${String(number).padStart(6, '0')}`
}

/**
 * The statements that walls were restored on purpose, from the first on. Versions that no key signed are passed over.
 * @throws SignetError ARCHIVE_UNAVAILABLE; ARCHIVE_INVALID where one is missing, or two have the same number
 */
export async function readRestores(
  store: ObjectStore,
  publicKeys: readonly KeyObject[],
): Promise<readonly RestoreStatement[]> {
  const { found, more } = await store.listAfter(FOLDER, '', MAX_LISTED)
  if (more) throw new SignetError('ARCHIVE_UNAVAILABLE', `${FOLDER} has more than ${MAX_LISTED} objects`)
  const stated = new Map<number, { statement: RestoreStatement; bytes: Buffer }>()
  for (const { key, versionId } of found) {
    const number = Number(KEY.exec(key)?.[1])
    if (Number.isNaN(number)) continue
    const bytes = await orNull(store.get(key, { maxBytes: MAX_STATEMENT_BYTES, versionId }))
    const statement = bytes === null ? null : signedOrNull(bytes, publicKeys)
    if (bytes === null || statement === null || statement.number !== number) continue
    const former = stated.get(number)
    if (former !== undefined && !former.bytes.equals(bytes))
      throw new SignetError('ARCHIVE_INVALID', `there are two statements of the restore ${number}`)
    stated.set(number, { statement, bytes })
  }
  return Array.from({ length: Math.max(0, ...stated.keys()) }, (_, index) => {
    const entry = stated.get(index + 1)
    if (entry === undefined)
      throw new SignetError('ARCHIVE_INVALID', `the statement of the restore ${index + 1} is missing`)
    return entry.statement
  })
}

function signedOrNull(bytes: Buffer, publicKeys: readonly KeyObject[]): RestoreStatement | null {
  try {
    return readRestore(bytes, publicKeys)
  } catch (error) {
    if (error instanceof SignetError && error.code === 'ARCHIVE_INVALID') return null
    throw error
  }
}
