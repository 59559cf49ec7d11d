import pg from 'pg'
import { openRecord } from '#core/audit/record.ts'
import { commitment, linkHash } from '#core/chain/link.ts'
import type { StoredLink } from '#core/chain/stored.ts'
import type { KeyIndex } from '#core/keyring/keyring.ts'
import {
  blockDigest,
  PURGE_EVENTS,
  purgeKey,
  purgesInForce,
  readPurgeNotice,
  type PurgeNotice,
  type PurgeStatement,
} from '#core/retention/purge.ts'
import type { Client } from '../postgres/transaction.ts'
import { copyOut } from './copy.ts'
import type { WallReader } from './reader.ts'

/** Notices about purges of one tenant that are read: three a class and month. More are a fault of their own. */
const MAX_NOTICES = 100_000

/**
 * What the tenant's chain says about purges, in its order. Only what a chain key made counts: each notice is compared with its link, and
 * the link's hash derived anew, wherever in the chain it stands.
 */
export async function readPurgeNotices(
  client: Client,
  keys: Pick<KeyIndex, 'chainKey'>,
  tenant: string,
): Promise<(PurgeNotice & { readonly seq: number })[]> {
  const types = PURGE_EVENTS.map((type) => pg.escapeLiteral(type))
  const rows = await copyOut(
    client,
    `SELECT r.seq, r.nonce, r.bytes, l.commitment, l.hash, l.previous_hash, l.previous_trace_hash, l.key_id
       FROM signet.records r JOIN signet.links l ON l.tenant = r.tenant AND l.seq = r.seq
      WHERE r.tenant = ${pg.escapeLiteral(tenant)} AND r.event_type IN (${types.join(', ')})
        AND md5(r.event_type) IN (${types.map((type) => `md5(${type})`).join(', ')})
      ORDER BY r.seq LIMIT ${MAX_NOTICES}`,
  )
  const notices: (PurgeNotice & { seq: number })[] = []
  while (rows.next()) {
    const seq = rows.bigint()
    const [nonce, bytes, committed, hash, previousHash, previousTraceHash] = Array.from({ length: 6 }, () =>
      rows.bytes(),
    )
    const key = keys.chainKey(rows.text())
    if (key === undefined || nonce?.length !== 32 || !commitment(nonce, bytes!).equals(committed!)) continue
    const link = { key: key.secret, previousHash: previousHash!, previousTraceHash: previousTraceHash!, seq, tenant }
    if ([previousHash, previousTraceHash, committed].some((each) => each?.length !== 32) || seq < 1) continue
    if (!linkHash({ ...link, commitment: committed! }).equals(hash!)) continue
    const notice = noticeOf(bytes!, tenant)
    if (notice !== null) notices.push({ ...notice, seq })
  }
  return notices
}

function noticeOf(bytes: Buffer, tenant: string): PurgeNotice | null {
  try {
    const record = openRecord(bytes)
    return record.event.tenant === tenant ? readPurgeNotice(record) : null
  } catch {
    return null
  }
}

export type PurgeProofs = {
  /**
   * Which of these links, whose record is missing, were purged: the chain has a purge record of their class and month that lists them,
   * and no record of that month is left. The others were deleted.
   */
  provenOf(links: readonly StoredLink[]): Promise<ReadonlySet<number>>
}

/** Blocks whose links were compared with a purge record, as far as they are remembered. */
const MAX_KNOWN_BLOCKS = 4_096

/** For one verification of one tenant: what was read and compared is not read again. */
export function createPurgeProofs(reader: WallReader, keys: Pick<KeyIndex, 'chainKey'>, tenant: string): PurgeProofs {
  let statements: Map<string, PurgeStatement> | undefined
  const emptied = new Map<string, boolean>()
  const blocks = new Map<string, boolean>()

  async function isEmptied(client: Client, { retention_class, month }: PurgeStatement): Promise<boolean> {
    const key = purgeKey(retention_class, month)
    let empty = emptied.get(key)
    if (empty === undefined) {
      const { rows } = await client.query<{ left: boolean }>(
        'SELECT EXISTS (SELECT FROM signet.records WHERE tenant = $1 AND retention_class = $2 AND month = $3::date) AS left',
        [tenant, retention_class, month],
      )
      empty = rows[0]?.left === false
      emptied.set(key, empty)
    }
    return empty
  }

  async function isListed(client: Client, statement: PurgeStatement, seq: number): Promise<boolean> {
    if (seq < statement.first_seq || seq > statement.last_seq) return false
    const { width } = statement
    const block = Math.floor((seq - 1) / width)
    const key = `${statement.purge_id} ${block}`
    let listed = blocks.get(key)
    if (listed === undefined) {
      if (blocks.size >= MAX_KNOWN_BLOCKS) blocks.clear()
      const links = await readBlock(client, tenant, statement, block)
      const stated = statement.blocks.find(([number]) => number === block)
      listed = stated !== undefined && stated[1] === links.length && stated[2] === blockDigest(links)
      // Somebody may have marked another link as one of these. With the one left out that does not belong, the others are proven.
      if (!listed && stated !== undefined && stated[1] < links.length) {
        const stranger = strangerAmong(links, stated)
        if (stranger !== null) {
          for (const link of links) blocks.set(`${statement.purge_id} link ${link.seq}`, link.seq !== stranger)
        }
      }
      blocks.set(key, listed)
    }
    return listed || blocks.get(`${statement.purge_id} link ${seq}`) === true
  }

  async function proven(client: Client, links: readonly StoredLink[]): Promise<Set<number>> {
    const found = new Set<number>()
    for (const { seq, retentionClass, month } of links) {
      const statement = statements?.get(purgeKey(retentionClass, month))
      if (statement === undefined || !(await isEmptied(client, statement))) continue
      if (await isListed(client, statement, seq)) found.add(seq)
    }
    return found
  }

  return {
    async provenOf(links) {
      if (links.length === 0) return new Set()
      return reader.inTenant(tenant, async (client) => {
        if (statements !== undefined) {
          const found = await proven(client, links)
          if (found.size === links.length) return found
        }
        // What was purged since it was read.
        statements = purgesInForce(await readPurgeNotices(client, keys, tenant))
        emptied.clear()
        return proven(client, links)
      })
    },
  }
}

type BlockLink = { readonly seq: number; readonly commitment: Buffer }

async function readBlock(
  client: Client,
  tenant: string,
  { retention_class, month, width }: PurgeStatement,
  block: number,
): Promise<BlockLink[]> {
  const rows = await copyOut(
    client,
    `SELECT seq, commitment FROM signet.links
      WHERE tenant = ${pg.escapeLiteral(tenant)} AND seq BETWEEN ${block * width + 1} AND ${(block + 1) * width}
        AND retention_class = ${pg.escapeLiteral(retention_class)} AND month = ${pg.escapeLiteral(month)}::date ORDER BY seq`,
  )
  const links: BlockLink[] = []
  while (rows.next()) links.push({ seq: rows.bigint(), commitment: rows.bytes() })
  return links
}

/** Tries that are worth their time: a block of the usual width has at most 1,024 links. */
const MAX_TRIES = 2_048

/** The one link without which the block is what was stated; null where it is not as simple as that. */
function strangerAmong(
  links: readonly BlockLink[],
  [, count, digest]: PurgeStatement['blocks'][number],
): number | null {
  if (links.length !== count + 1 || links.length > MAX_TRIES) return null
  const found = links.find((link) => blockDigest(links.filter((other) => other !== link)) === digest)
  return found?.seq ?? null
}
