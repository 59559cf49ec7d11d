import { SignetError } from '#core/error/signet-error.ts'
import type { ObjectStore } from './object-store.ts'

const DIGITS = 16
const NUMBER = /^\d{16}$/
/** Sorts after every digit, so that what comes after it comes after all that begins with the number. */
const PAST = '~'
const LISTED = 100
const MAX_PAGES = 50

/** Of the history that began with a restore, or with the first record (0). Ends with a slash. */
export function checkpointFolder(branch: number): string {
  return branch === 0 ? 'checkpoints/' : `branches/${String(branch).padStart(6, '0')}/checkpoints/`
}

export function checkpointKey(branch: number, size: number): string {
  return checkpointFolder(branch) + String(size).padStart(DIGITS, '0')
}

/** The size that a key stands for; null for what is no checkpoint's key. */
export function sizeOfKey(folder: string, key: string): number | null {
  const name = key.slice(folder.length)
  if (!key.startsWith(folder) || !NUMBER.test(name)) return null
  const size = Number(name)
  return Number.isSafeInteger(size) ? size : null
}

/**
 * The smallest size above `size` that there is a key for, whoever wrote it; null where there is none.
 * @throws SignetError ARCHIVE_UNAVAILABLE, also where the folder is full of keys that are no checkpoint's
 */
export async function sizeAfter(store: ObjectStore, folder: string, size: number): Promise<number | null> {
  let after = size <= 0 ? '' : folder + String(size).padStart(DIGITS, '0') + PAST
  for (let pages = 0; pages < MAX_PAGES; pages++) {
    const { found, more } = await store.listAfter(folder, after, pages === 0 ? 1 : LISTED)
    for (const { key } of found) {
      const next = sizeOfKey(folder, key)
      if (next !== null && next > size) return next
    }
    const last = found.at(-1)
    if (!more || last === undefined) return null
    after = last.key + PAST
  }
  throw new SignetError('ARCHIVE_UNAVAILABLE', `${folder} is full of objects that are no checkpoints`)
}

/**
 * The greatest size, `atMost` at most, that there is a key for, in as many listings as the number has digits (binary), whatever the number of
 * objects. `hint`: a size near it. @throws SignetError ARCHIVE_UNAVAILABLE
 */
export async function greatestSize(
  store: ObjectStore,
  folder: string,
  { atMost, hint }: { readonly atMost: number; readonly hint: number },
): Promise<number | null> {
  const next = async (size: number): Promise<number | null> => {
    const found = await sizeAfter(store, folder, size)
    return found === null || found > atMost ? null : found
  }
  let low = (hint > 0 ? await next(hint - 1) : null) ?? (await next(0))
  if (low === null) return null
  // None is above `high`.
  let high = atMost
  for (let step = 1; low + step < atMost; step *= 2) {
    const found = await next(low + step)
    if (found === null) {
      high = low + step
      break
    }
    low = found
  }
  while (low < high) {
    const middle: number = low + Math.floor((high - low) / 2)
    const found = await next(middle)
    if (found === null) high = middle
    else low = found
  }
  return low
}
