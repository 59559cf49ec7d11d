import { randomUUID } from 'node:crypto'
import pg from 'pg'
import type { KeyObject } from 'node:crypto'
import { traceMark } from '#core/chain/mark.ts'
import { indexKeyring } from '#core/keyring/keyring.ts'
import type { TreeHead } from '#core/tree/checkpoint.ts'
import { logVerifier, openLogCheckpoint, type LogKeys } from '#core/tree/log-key.ts'
import type { Client } from '#runtime/postgres/transaction.ts'
import { verifyStore, type FsckReport } from '#runtime/wall/fsck.ts'
import { snapshotReader } from '#runtime/wall/reader.ts'
import type { ChainKeys } from '#runtime/wall/verify-chain.ts'
import type { LedgerStack } from './ledger.ts'
import { buildEvent, buildLines, buildStamp, createClient, lineOf, stampHashOf } from './producer.ts'

/** That of a ledger that is told no other. */
export const ORIGIN = 'signet-ledger'

export const WALL_TABLES = [
  'links',
  'records',
  'compliance_stamps',
  'tree_runs',
  'tree_tiles',
  'tree_checkpoints',
] as const

/** Fills a wall through its ledger: two tenants, events with stamps among them, in as many rounds of the tree. */
export async function fillWall(stack: LedgerStack, rounds: readonly { acme: number; globex: number }[]): Promise<void> {
  const url = stack.ledgers[0]?.url ?? ''
  const sessions = { acme: randomUUID(), globex: randomUUID() }
  const sent = { acme: 0, globex: 0 }
  const admin = new pg.Client(stack.wall.adminUrl)
  await admin.connect()
  try {
    for (const round of rounds) {
      for (const tenant of ['acme', 'globex'] as const) {
        const client = createClient(url, stack.token(tenant === 'acme' ? 'proxy' : 'globex-proxy'))
        const trace_id = randomUUID().replaceAll('-', '')
        const lines = buildLines(sessions[tenant], sent[tenant] + 1, round[tenant], { trace_id })
        const event = buildEvent({ trace_id })
        const stamp = buildStamp({ tenant, producerId: 'demo/api', event })
        lines.push(
          lineOf({
            session: sessions[tenant],
            spool_seq: sent[tenant] + round[tenant] + 1,
            event: { ...event, stamp_hash: stampHashOf(stamp) },
            stamp,
          }),
        )
        await client.append(lines)
        sent[tenant] += lines.length
      }
      await integrated(admin)
    }
  } finally {
    await admin.end()
  }
}

/** Waits until the tree holds every link. */
async function integrated(admin: pg.Client): Promise<void> {
  for (;;) {
    const { rows } = await admin.query<{ done: boolean }>(
      'SELECT (SELECT count(*) FROM signet.links) = (SELECT coalesce(max(size), 0) FROM signet.tree_checkpoints) AS done',
    )
    if (rows[0]?.done === true) return
    await new Promise((resolve) => setTimeout(resolve, 50))
  }
}

export type WallKeys = { readonly chainKeys: ChainKeys; readonly logKeys: LogKeys; readonly signingKey: KeyObject }

export function wallKeys(stack: LedgerStack): WallKeys {
  const index = indexKeyring(stack.keyring)
  const marking = index.chainKey('chain-1')!.secret
  const ack = index.ackKey('ack-1')!
  return {
    chainKeys: {
      chainKey: (keyId) => index.chainKey(keyId),
      traceMark: (tenant, traceId) => traceMark(marking, tenant, traceId),
    },
    logKeys: [ack.publicKey],
    signingKey: ack.privateKey!,
  }
}

/** The last checkpoint of a wall, as somebody outside would have kept it. */
export async function lastCheckpoint(
  admin: pg.Client,
  { logKeys }: WallKeys,
): Promise<{ note: string; head: TreeHead }> {
  const { rows } = await admin.query<{ note: string }>(
    'SELECT note FROM signet.tree_checkpoints ORDER BY size DESC LIMIT 1',
  )
  const note = rows[0]?.note ?? ''
  return {
    note,
    head: openLogCheckpoint(
      note,
      logKeys.map((key) => logVerifier(ORIGIN, key)),
    ),
  }
}

/**
 * What a superuser could do with the triggers out of the way, verified, and put back: all of it in one transaction that is never
 * committed, so that ten thousand tries cost no more than their own statements.
 */
export async function verifyTampered(
  admin: pg.Client,
  tamper: (client: pg.Client) => Promise<unknown>,
  keys: WallKeys,
  external: readonly TreeHead[],
): Promise<FsckReport> {
  await admin.query('BEGIN ISOLATION LEVEL REPEATABLE READ')
  try {
    for (const table of WALL_TABLES) await admin.query(`ALTER TABLE signet.${table} DISABLE TRIGGER ALL`)
    await tamper(admin)
    return await verifyStore(snapshotReader(admin as unknown as Client), {
      ...keys,
      origin: ORIGIN,
      external,
      maxTraces: 100_000,
      signal: new AbortController().signal,
      onProgress: () => undefined,
    })
  } finally {
    await admin.query('ROLLBACK')
  }
}
