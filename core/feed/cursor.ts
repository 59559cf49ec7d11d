import { SignetError } from '../error/signet-error.ts'

/** Where a reader of a tenant's feed is: after link `seq`, whose hash begins with `hashPrefix` (16 hex digits). */
export type FeedCursor = { readonly seq: number; readonly hashPrefix: string }

const PREFIX_DIGITS = 16
const FORM = /^f1:([1-9][0-9]{0,14}):([0-9a-f]{16})$/

/** `hash`: of the link, 32 bytes. The cursor needs no signature: it opens nothing, and only a true one is the chain's. */
export function encodeFeedCursor(seq: number, hash: Buffer): string {
  return Buffer.from(`f1:${seq}:${hash.toString('hex').slice(0, PREFIX_DIGITS)}`).toString('base64url')
}

/** @throws SignetError REQUEST_INVALID */
export function decodeFeedCursor(text: string): FeedCursor {
  const [, seq, hashPrefix] = FORM.exec(Buffer.from(text, 'base64url').toString('latin1')) ?? []
  if (seq === undefined || hashPrefix === undefined)
    throw new SignetError('REQUEST_INVALID', 'the parameter after is not a cursor that this feed gave out')
  return { seq: Number(seq), hashPrefix }
}

export function cursorHolds(cursor: FeedCursor, hash: Buffer): boolean {
  return hash.toString('hex').startsWith(cursor.hashPrefix)
}
