import { chainBroken, faultOf, type FoundFault } from '#core/chain/fault.ts'
import type { TreeHead } from '#core/tree/checkpoint.ts'
import type { LogKeys } from '#core/tree/log-key.ts'
import { readHead } from './chain.ts'
import type { WallReader } from './reader.ts'
import { readLastIntegrated, readTenants } from './tree.ts'
import { verifyChain, type ChainKeys } from './verify-chain.ts'
import { verifyTree, type TreeReport } from './verify-tree.ts'

export type FsckTask = {
  readonly chainKeys: ChainKeys
  readonly logKeys: LogKeys
  readonly origin: string | null
  readonly external: readonly TreeHead[]
  readonly maxTraces: number
  readonly signal: AbortSignal
  readonly onProgress: (progress: FsckProgress) => void
}
export type FsckProgress = {
  readonly what: 'chain' | 'tree'
  readonly tenant: string | null
  readonly done: number
  readonly of: number | null
}

export type TenantReport = {
  readonly tenant: string
  readonly seq: number
  readonly hash: string
  readonly in_tree: number
  /** Links whose record was purged, as the chain says; null where the chain is at fault. */
  readonly purged: number | null
}
/** `tenant`: whose chain it is; null for the tree. */
export type StoreFault = FoundFault & { readonly tenant: string | null }
export type FsckReport = {
  readonly tenants: readonly TenantReport[]
  /** Links of all chains. */
  readonly links: number
  /** Null where the tree is at fault. */
  readonly tree: TreeReport | null
  /** The first of each chain, then that of the tree. */
  readonly faults: readonly StoreFault[]
}

/**
 * Verifies a whole store from its bytes: each chain with its records and stamps, then the tree over all of them. A fault in one chain
 * does not keep the others from being verified. `reader` should be of one snapshot.
 * @throws SignetError DATABASE_UNAVAILABLE; `signal.reason` when it aborts
 */
export async function verifyStore(reader: WallReader, task: FsckTask): Promise<FsckReport> {
  const names = await reader.inTree((client) => readTenants(client))
  const tenants: TenantReport[] = []
  const faults: StoreFault[] = []
  for (const tenant of names) {
    const head = await reader.inTenant(tenant, (client) => readHead(client, tenant))
    const inTree = await reader.inTree((client) => readLastIntegrated(client, tenant))
    let purged: number | null = null
    const fault = await attempt(async () => {
      const verified = await verifyChain(reader, task.chainKeys, {
        tenant,
        fromSeq: 1,
        toSeq: head.seq,
        toEnd: true,
        knownHeads: [],
        maxTraces: task.maxTraces,
        signal: task.signal,
        onProgress: (done) => task.onProgress({ what: 'chain', tenant, done, of: head.seq }),
      })
      if (inTree > head.seq)
        throw chainBroken(head.seq + 1, 'truncate', `the links end at ${head.seq}, the tree has them to ${inTree}`)
      purged = verified.purged
    })
    tenants.push({ tenant, seq: head.seq, hash: head.hash.toString('hex'), in_tree: inTree, purged })
    if (fault !== null) faults.push({ tenant, ...fault })
  }
  const links = tenants.reduce((sum, { seq }) => sum + seq, 0)
  let tree: TreeReport | null = null
  const fault = await attempt(async () => {
    const { logKeys, origin, external, signal } = task
    const onProgress = (done: number): void => task.onProgress({ what: 'tree', tenant: null, done, of: links })
    tree = await verifyTree(reader, { logKeys, origin, external, upTo: null, signal, onProgress })
  })
  if (fault !== null) faults.push({ tenant: null, ...fault })
  return { tenants, links, tree, faults }
}

async function attempt(work: () => Promise<void>): Promise<FoundFault | null> {
  try {
    await work()
    return null
  } catch (error) {
    const fault = faultOf(error)
    if (fault === null) throw error
    return fault
  }
}
