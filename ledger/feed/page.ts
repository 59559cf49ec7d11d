import { openRecord, type SealedRecord } from '#core/audit/record.ts'
import { commitment } from '#core/chain/link.ts'
import { SignetError } from '#core/error/signet-error.ts'
import { cursorHolds, type FeedCursor } from '#core/feed/cursor.ts'
import { withTenant, type Pool } from '#runtime/postgres/transaction.ts'
import { readLinkHash } from '../store/feed.ts'
import { searchRecords, type FoundRow } from '../store/search.ts'
import { readHead } from '../store/wall.ts'

/** A range of links, both ends included, whose records are not there: purged, or taken away (`GET /api/audit/verify` tells). */
export type AbsentRange = { readonly from: number; readonly to: number }
export type FeedPage = {
  readonly rows: readonly FoundRow[]
  readonly absent: readonly AbsentRange[]
  /** Everything up to here is in the page, or absent. `hash` null where the link is gone. */
  readonly next: { readonly seq: number; readonly hash: Buffer | null }
  readonly head: number
}

const EVERYTHING = { from: null, to: null, equals: [], words: null, order: 'asc' } as const

/**
 * The records after a place in a tenant's chain, in its order, at most `limit` and 16 MiB of them. A chain is appended to under its lock,
 * so that what a transaction sees of it has no holes and nothing comes in before its end later.
 * @throws SignetError FEED_CURSOR_MISMATCH where the chain has no such link: it was set back, or the cursor is not of this tenant
 */
export async function readFeedPage(
  wall: Pool,
  tenant: string,
  after: FeedCursor | number,
  limit: number,
): Promise<FeedPage> {
  const seq = typeof after === 'number' ? after : after.seq
  return withTenant(
    wall,
    tenant,
    async (client) => {
      const head = await readHead(client, tenant)
      if (seq > head.seq) throw notOfThisChain(seq)
      if (typeof after !== 'number') {
        const hash = await readLinkHash(client, tenant, seq)
        if (hash === null || !cursorHolds(after, hash)) throw notOfThisChain(seq)
      }
      if (seq === head.seq) return { rows: [], absent: [], next: head, head: head.seq }
      const { rows, more } = await searchRecords(client, tenant, { ...EVERYTHING, limit, bound: seq })
      const last = rows.at(-1)
      const next = last !== undefined && (more || last.seq >= head.seq) ? last : head
      return { rows, absent: absentBetween(seq, rows, next.seq), next, head: Math.max(head.seq, next.seq) }
    },
    { readOnly: true },
  )
}

function notOfThisChain(seq: number): SignetError {
  return new SignetError(
    'FEED_CURSOR_MISMATCH',
    `the cursor stands after record ${seq}, which is not the one that the chain has there now; see docs/feed.md`,
  )
}

export function absentBetween(after: number, rows: readonly { readonly seq: number }[], to: number): AbsentRange[] {
  const absent: AbsentRange[] = []
  let expected = after + 1
  for (const { seq } of rows) {
    if (seq > expected) absent.push({ from: expected, to: seq - 1 })
    expected = seq + 1
  }
  if (expected <= to) absent.push({ from: expected, to })
  return absent
}

/** The record, where it is what its link committed to; else null. */
export function intactRecord(row: FoundRow): SealedRecord | null {
  if (row.commitment === null || !commitment(row.nonce, row.bytes).equals(row.commitment)) return null
  try {
    return openRecord(row.bytes)
  } catch {
    return null
  }
}
