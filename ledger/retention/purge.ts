import { randomUUID } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'
import pg from 'pg'
import { canonicalize } from '#core/canonical/jcs.ts'
import { faultOf } from '#core/chain/fault.ts'
import { SignetError } from '#core/error/signet-error.ts'
import { blockWidth, purgeKey, purgesInForce, signPurge, type PurgeStatement } from '#core/retention/purge.ts'
import { query, withTenant, type Pool } from '#runtime/postgres/transaction.ts'
import { readPurgeNotices } from '#runtime/wall/purges.ts'
import { poolReader } from '#runtime/wall/reader.ts'
import { readLastIntegrated } from '#runtime/wall/tree.ts'
import { verifyChain } from '#runtime/wall/verify-chain.ts'
import type { LedgerKeys } from '../keys.ts'
import type { Sequencer } from '../sequencer.ts'
import { chainKeys } from '../verify.ts'
import {
  readObstacles,
  readParts,
  readPurgedOf,
  verdictOf,
  type ClassMonth,
  type MonthVerdict,
  type Obstacle,
  type TenantPart,
} from './months.ts'
import { purgeAbandoned, purgeAuthorized, purgeCompleted } from './notice.ts'

export type PurgeDeps = {
  /** Connections whose statements may take long. */
  readonly wall: Pool
  readonly keys: LedgerKeys
  readonly sequencer: Pick<Sequencer, 'append'>
  readonly clock: () => Date
}

/** `records`: of all tenants, where it was purged. */
export type PurgeOutcome = ClassMonth & {
  readonly state: MonthVerdict | 'purged'
  readonly records: number
  readonly obstacles: readonly Obstacle[]
}

const MAX_CLOCK_DIFFERENCE_MS = 5 * 60_000
const MAX_TRACES = 20_000
const TREE_PATIENCE_MS = 60_000
const TREE_POLL_MS = 200

/**
 * Purges a month of a class where nothing is in the way. First its links and records are verified, since what is gone tells of no tampering
 * any more; then what goes is recorded in the chain of each tenant, signed, and covered by a checkpoint; then the wall itself checks all of
 * it and drops the partition. A purge that broke off anywhere is taken up, or declared void, the next time.
 * @throws SignetError DATABASE_UNAVAILABLE, LEDGER_BUSY; `signal.reason` when it aborts
 */
export async function purgeMonth(
  deps: PurgeDeps,
  which: ClassMonth,
  by: string,
  signal: AbortSignal,
): Promise<PurgeOutcome> {
  const obstacles = await findObstacles(deps, which)
  const parts = obstacles.length === 0 ? await readParts(deps.wall, which) : []
  for (const part of parts) {
    const broken = await verifyPart(deps, part, signal)
    if (broken !== null) obstacles.push(broken)
  }
  if (obstacles.length > 0) return { ...which, state: verdictOf(obstacles), records: 0, obstacles }
  const statements: PurgeStatement[] = []
  for (const part of parts) statements.push(await authorize(deps, which, part, by))
  for (const { tenant } of statements) await untilInTree(deps, tenant, signal)
  const refused = await drop(deps, which)
  if (refused !== null) {
    if (refused.reason !== 'busy')
      for (const statement of statements) await deps.sequencer.append(purgeAbandoned(statement, refused.reason))
    return { ...which, state: verdictOf([refused]), records: 0, obstacles: [refused] }
  }
  for (const statement of statements) await deps.sequencer.append(purgeCompleted(statement))
  return { ...which, state: 'purged', records: parts.reduce((sum, { records }) => sum + records, 0), obstacles: [] }
}

/** What is in the way before anything is recorded. */
export async function findObstacles(deps: Pick<PurgeDeps, 'wall' | 'clock'>, which: ClassMonth): Promise<Obstacle[]> {
  const obstacles = await readObstacles(deps.wall, which, false)
  if (obstacles.length > 0) return obstacles
  const [row] = await query<{ now: Date }>(deps.wall, 'SELECT now() AS now')
  const difference = Math.abs((row?.now.getTime() ?? 0) - deps.clock().getTime())
  if (difference <= MAX_CLOCK_DIFFERENCE_MS) return []
  const detail = `the clocks of the ledger and of its database differ by ${Math.round(difference / 1_000)} s`
  return [{ reason: 'clock', tenant: null, detail }]
}

async function verifyPart({ wall, keys }: PurgeDeps, part: TenantPart, signal: AbortSignal): Promise<Obstacle | null> {
  try {
    await verifyChain(poolReader(wall), chainKeys(keys), {
      tenant: part.tenant,
      fromSeq: part.firstSeq,
      toSeq: part.lastSeq,
      toEnd: false,
      knownHeads: [],
      maxTraces: MAX_TRACES,
      signal,
      onProgress: () => undefined,
    })
    return null
  } catch (error) {
    const fault = faultOf(error)
    if (fault === null) throw error
    return { reason: 'broken', tenant: part.tenant, detail: fault.detail }
  }
}

/** The purge record of a tenant: one that still holds, or a new one. */
async function authorize(deps: PurgeDeps, which: ClassMonth, part: TenantPart, by: string): Promise<PurgeStatement> {
  const { wall, keys, sequencer, clock } = deps
  const { tenant } = part
  const { before, drafted } = await withTenant(
    wall,
    tenant,
    async (client) => {
      await client.query("SELECT set_config('signet.tree', 'on', true)")
      const notices = await readPurgeNotices(client, keys, tenant)
      const width = blockWidth(part.firstSeq, part.lastSeq)
      const place = [tenant, which.retentionClass, which.month, part.firstSeq, part.lastSeq]
      const { rows } = await client.query<{ blocks: PurgeStatement['blocks'] }>(
        'SELECT signet.purge_blocks($1, $2, $3::date, $4, $5, $6) AS blocks',
        [...place, width],
      )
      const archived = await client.query<{ snapshot: string; manifest: Buffer }>(
        `SELECT snapshot, manifest_sha256 AS manifest FROM signet.archive_proofs
          WHERE tenant = $1 AND retention_class = $2 AND month = $3::date AND first_seq = $4 AND last_seq = $5 AND records = $6
          ORDER BY retain_until DESC LIMIT 1`,
        [...place, part.records],
      )
      const [proof] = archived.rows
      if (proof === undefined) throw new SignetError('LEDGER_BUSY', 'the archive of this month changed meanwhile')
      return {
        before: purgesInForce(notices).get(purgeKey(which.retentionClass, which.month)),
        drafted: {
          v: 1 as const,
          purge_id: randomUUID(),
          tenant,
          retention_class: which.retentionClass,
          month: which.month,
          first_seq: part.firstSeq,
          last_seq: part.lastSeq,
          records: part.records,
          width,
          blocks: rows[0]?.blocks ?? [],
          snapshot: proof.snapshot,
          manifest_sha256: proof.manifest.toString('hex'),
        },
      }
    },
    { readOnly: true, snapshot: true },
  )
  if (before !== undefined) {
    if (canonicalize({ ...drafted, purge_id: before.purge_id }) === canonicalize(before)) return before
    await sequencer.append(purgeAbandoned(before, 'it is of other records, or of another archive'))
  }
  await sequencer.append(purgeAuthorized(drafted, signPurge(drafted, keys.ackKey(clock())), by))
  return drafted
}

/** Until a signed checkpoint has what was appended to the tenant's chain before. */
async function untilInTree({ wall }: PurgeDeps, tenant: string, signal: AbortSignal): Promise<void> {
  const reader = poolReader(wall)
  const [head] = await withTenant(
    wall,
    tenant,
    async (client) => {
      const { rows } = await client.query<{ seq: string }>(
        'SELECT seq FROM signet.links WHERE tenant = $1 ORDER BY seq DESC LIMIT 1',
        [tenant],
      )
      return rows
    },
    { readOnly: true },
  )
  const seq = Number(head?.seq ?? 0)
  const deadline = performance.now() + TREE_PATIENCE_MS
  while ((await reader.inTree((client) => readLastIntegrated(client, tenant))) < seq) {
    if (performance.now() > deadline)
      throw new SignetError(
        'LEDGER_BUSY',
        'the tree does not come to the purge records; the purge is tried again later',
      )
    await sleep(TREE_POLL_MS, undefined, { signal })
  }
}

const REFUSED = '42501'
const LOCKED = '55P03'
const DEADLOCK = '40P01'

/** Null where the month is gone. */
async function drop({ wall }: PurgeDeps, { retentionClass, month }: ClassMonth): Promise<Obstacle | null> {
  try {
    await query(wall, 'SELECT signet.purge_month($1, $2::date)', [retentionClass, month])
    return null
  } catch (error) {
    if (!(error instanceof pg.DatabaseError)) throw error
    if (error.code === LOCKED || error.code === DEADLOCK)
      return { reason: 'busy', tenant: null, detail: 'somebody reads or writes it without a pause; it is tried again' }
    if (error.code !== REFUSED) throw error
    const reason = (/refused: ([a-z-]+)$/.exec(error.message)?.[1] ?? 'not-recorded') as Obstacle['reason']
    return { reason, tenant: null, detail: error.detail ?? error.message }
  }
}

/**
 * Ends what a purge that broke off left open in a tenant's chain: what was dropped is recorded as completed, what may not be purged any
 * more is declared void. `stillDue`: whether a month is one that may be purged; such a statement is left to the purge.
 */
export async function settlePurges(
  { wall, keys, sequencer }: PurgeDeps,
  tenant: string,
  stillDue: (which: ClassMonth) => Promise<boolean>,
): Promise<void> {
  const { notices, purged } = await withTenant(
    wall,
    tenant,
    async (client) => ({
      notices: await readPurgeNotices(client, keys, tenant),
      purged: await readPurgedOf(client, tenant, MAX_SETTLED),
    }),
    { readOnly: true, snapshot: true },
  )
  const completed = new Set(notices.flatMap((notice) => (notice.kind === 'completed' ? [notice.purgeId] : [])))
  const gone = new Set(purged.map(({ retentionClass, month }) => purgeKey(retentionClass, month)))
  for (const [key, statement] of purgesInForce(notices)) {
    if (completed.has(statement.purge_id)) continue
    if (gone.has(key)) await sequencer.append(purgeCompleted(statement))
    else if (!(await stillDue({ retentionClass: statement.retention_class, month: statement.month })))
      await sequencer.append(purgeAbandoned(statement, 'it may not be purged any more'))
  }
}

const MAX_SETTLED = 10_000
