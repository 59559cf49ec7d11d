import { SignetError } from '#core/error/signet-error.ts'

/** A place in a list that is sorted by time and id, newest first: opaque to callers. */
export type Cursor = { readonly at: Date; readonly id: string }
export type Page<T> = { readonly items: T[]; readonly next_cursor: string | null }

export const DEFAULT_LIMIT = 100
export const MAX_LIMIT = 1_000

/** The end of the year 9999, in milliseconds: no row is later, and the database and JavaScript know the same moments until then. */
const LATEST_MS = 253_402_300_799_999

const FORM = /^v1:(\d{1,16}):([0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12})$/

/** `rows` has one more than `limit` where there is a next page. Times are cut to the millisecond, as columns that are paged by have to be. */
export function pageOf<R extends { id: string; created_at: Date }, T>(
  rows: R[],
  limit: number,
  present: (row: R) => T,
): Page<T> {
  const shown = rows.slice(0, limit)
  const last = shown.at(-1)
  const next_cursor =
    rows.length > limit && last !== undefined
      ? Buffer.from(`v1:${last.created_at.getTime()}:${last.id}`).toString('base64url')
      : null
  return { items: shown.map(present), next_cursor }
}

/** @throws SignetError REQUEST_INVALID */
export function parseCursor(cursor: string | undefined): Cursor | null {
  if (cursor === undefined) return null
  const [, ms, id] = FORM.exec(Buffer.from(cursor, 'base64url').toString('latin1')) ?? []
  if (ms === undefined || id === undefined || Number(ms) > LATEST_MS)
    throw new SignetError('REQUEST_INVALID', 'the parameter cursor is not one that this service gave out')
  return { at: new Date(Number(ms)), id }
}
