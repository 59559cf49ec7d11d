import { openRecord, type SealedRecord } from '#core/audit/record.ts'
import { commitment } from '#core/chain/link.ts'
import { SignetError } from '#core/error/signet-error.ts'
import { withTenant, type Pool } from '#runtime/postgres/transaction.ts'
import type { RecordFilter } from '../query.ts'
import { findBounds, findLeafIndexes, searchRecords } from '../store/search.ts'

/** A record whose bytes are what its link commits to. `leafIndex`: in the tree of all links. */
export type ScannedRecord = {
  readonly seq: number
  readonly nonce: Buffer
  readonly bytes: Buffer
  readonly record: SealedRecord
  readonly commitment: Buffer
  readonly linkHash: Buffer
  readonly leafIndex: number
}

const PAGE_ROWS = 500

/**
 * The records that a filter finds, up to `headSeq`, in the order of the chain, a page in memory at a time. Records never change, so that
 * each scan gives the same. @throws SignetError CHAIN_BROKEN for a record that is not what the chain committed to: an export vouches
 * for what is in it
 */
export async function* scanRecords(
  wall: Pool,
  scope: { readonly tenant: string; readonly filter: RecordFilter; readonly headSeq: number },
): AsyncGenerator<ScannedRecord[]> {
  const { tenant, filter, headSeq } = scope
  const found = await withTenant(wall, tenant, (client) => findBounds(client, tenant, filter), { readOnly: true })
  const lastSeq = Math.min(headSeq, found?.last ?? 0)
  let bound: number | null = found === null ? null : found.first - 1
  while (bound !== null) {
    const wanted = { ...filter, order: 'asc', limit: PAGE_ROWS, bound } as const
    const { records, next }: { records: ScannedRecord[]; next: number | null } = await withTenant(
      wall,
      tenant,
      async (client) => {
        const page = await searchRecords(client, tenant, wanted)
        const rows = page.rows.filter(({ seq }) => seq <= lastSeq)
        const ended = !page.more || rows.length < page.rows.length || rows.at(-1)?.seq === lastSeq
        const leaves = await findLeafIndexes(
          client,
          tenant,
          rows.map(({ seq }) => seq),
        )
        return {
          records: rows.map((row) => checked(row, leaves.get(row.seq))),
          next: ended ? null : (rows.at(-1)?.seq ?? null),
        }
      },
      { readOnly: true },
    )
    if (records.length > 0) yield records
    bound = next
  }
}

type Row = Awaited<ReturnType<typeof searchRecords>>['rows'][number]

function checked(row: Row, leafIndex: number | undefined): ScannedRecord {
  const { seq, nonce, bytes, hash } = row
  const fault = (what: string): SignetError =>
    new SignetError('CHAIN_BROKEN', `record ${seq} ${what}; GET /api/audit/verify says more`)
  if (row.commitment === null || hash === null) throw fault('has no link')
  if (!commitment(nonce, bytes).equals(row.commitment)) throw fault('is not what the chain committed to')
  if (leafIndex === undefined) throw fault('is in no tree')
  return { seq, nonce, bytes, record: openRecord(bytes), commitment: row.commitment, linkHash: hash, leafIndex }
}
