import { createPublicKey } from 'node:crypto'
import { faultOf, type FoundFault } from '#core/chain/fault.ts'
import type { LogKeys } from '#core/tree/log-key.ts'
import type { Pool } from '#runtime/postgres/transaction.ts'
import { readHead } from '#runtime/wall/chain.ts'
import { poolReader } from '#runtime/wall/reader.ts'
import { readLastWithin } from '#runtime/wall/tree.ts'
import { verifyChain, verifyTrace, type ChainKeys } from '#runtime/wall/verify-chain.ts'
import { verifyTenantTree } from '#runtime/wall/verify-tree.ts'
import { traceMark } from './chain.ts'
import type { LedgerKeys } from './keys.ts'
import type { VerifyScope } from './query.ts'

export type Verdict = {
  readonly ok: boolean
  /** Links that verified, from the first on. */
  readonly checked: number
  /** Of them, links whose record was purged, as the chain says. */
  readonly purged?: number
  /** The chain's head when verification began, as stored. */
  readonly head: { readonly seq: number; readonly hash: string }
  /**
   * Where the whole chain was verified: leaves of the tree as signed last, the tenant's links that are in it, and those that no
   * checkpoint proves yet.
   */
  readonly tree?: {
    readonly size: number
    readonly in_tree: number
    readonly not_yet_proven: number
    /** Where there is an archive: leaves of its last checkpoint, and the tenant's links that are past it, or not even in the tree. */
    readonly archived?: { readonly size: number; readonly not_yet_proven: number }
  }
  readonly first_bad?: FoundFault
}

export type VerifyDeps = {
  readonly wall: Pool
  readonly keys: LedgerKeys
  readonly origin: string
  /** Leaves of the last checkpoint that the archive was given; absent, or null: there is no archive. */
  readonly archivedSize?: () => Promise<number | null>
}

const MAX_TRACES = 100_000

/**
 * Verifies a tenant's chain from the bytes, and that the tree holds it. Reads in bounded batches; events that arrive meanwhile are
 * left to the next time. Ends at the first fault.
 * @throws SignetError DATABASE_UNAVAILABLE; `signal.reason` when it aborts
 */
export async function verifyTenant(
  { wall, keys, origin, archivedSize }: VerifyDeps,
  tenant: string,
  scope: VerifyScope,
  signal: AbortSignal,
): Promise<Verdict> {
  const reader = poolReader(wall)
  const archived = (await archivedSize?.()) ?? null
  const head = await reader.inTenant(tenant, (client) => readHead(client, tenant))
  const answer = { head: { seq: head.seq, hash: head.hash.toString('hex') } }
  let checked = 0
  const task = {
    tenant,
    toSeq: Math.min(scope.toSeq ?? head.seq, head.seq),
    signal,
    onProgress: (links: number) => {
      checked = links
    },
  }
  try {
    if (scope.traceId !== null) {
      await verifyTrace(reader, chainKeys(keys), { ...task, traceId: scope.traceId })
      return { ok: true, checked, ...answer }
    }
    const { purged } = await verifyChain(reader, chainKeys(keys), {
      ...task,
      fromSeq: scope.fromSeq,
      toEnd: scope.toSeq === null,
      knownHeads: scope.checkpoint === null ? [] : [scope.checkpoint],
      maxTraces: MAX_TRACES,
    })
    if (scope.toSeq !== null || scope.fromSeq > 1) return { ok: true, checked, purged, ...answer }
    const found = await verifyTenantTree(reader, { tenant, headSeq: head.seq, logKeys: logKeys(keys), origin, signal })
    const tree = { size: found.size, in_tree: found.inTree, not_yet_proven: Math.max(0, head.seq - found.inTree) }
    if (archived === null) return { ok: true, checked, purged, ...answer, tree }
    const last = await reader.inTree((client) => readLastWithin(client, tenant, archived))
    const tail = { size: archived, not_yet_proven: Math.max(0, head.seq - last) }
    return { ok: true, checked, purged, ...answer, tree: { ...tree, archived: tail } }
  } catch (error) {
    const bad = faultOf(error)
    if (bad === null) throw error
    // What was verified before the first bad link; a fault of the tree leaves all links verified.
    const sound = bad.leaf === undefined ? Math.max(0, bad.seq - scope.fromSeq) : checked
    return { ok: false, checked: scope.traceId === null ? sound : Math.min(checked, sound), ...answer, first_bad: bad }
  }
}

/** What the verifier needs of a ledger's keys. */
export function chainKeys(keys: LedgerKeys): ChainKeys {
  return {
    chainKey: (keyId) => keys.chainKey(keyId),
    traceMark: (tenant, traceId) => traceMark(keys.mark, tenant, traceId),
  }
}

/** Every key that may have signed a checkpoint. */
export function logKeys(keys: LedgerKeys): LogKeys {
  return keys
    .publicAckKeys()
    .map(({ public_key }) =>
      createPublicKey({ key: Buffer.from(public_key, 'base64url'), format: 'der', type: 'spki' }),
    )
}
