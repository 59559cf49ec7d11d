import type { KeyObject } from 'node:crypto'
import type { ArchiveManifest, ArchiveObject, ArchiveTenant } from '#core/archive/manifest.ts'
import { commitment } from '#core/chain/link.ts'
import { digestText } from '#core/crypto/digest.ts'
import { SignetError } from '#core/error/signet-error.ts'
import { leafHash } from '#core/tree/hash.ts'
import { TreeRebuild, type RebuiltTile } from '#core/tree/rebuild.ts'
import { LEAF_BYTES, LeafFile } from './leaf-file.ts'
import type { ObjectStore } from './object-store.ts'
import { openArchivedCheckpoint, readRows, type Row } from './read.ts'

export type ArchiveReport = {
  readonly tenants: number
  readonly links: number
  readonly records: number
  readonly leaves: number
}

const ZEROS = '0'.repeat(64)

/**
 * Verifies a snapshot from the archive alone, with the log's public keys: every object against the manifest, every record against the
 * commitment of its link, each chain's order, and that all links together are the tree that the checkpoint was signed over. That the chain's
 * own key made the links says `signet fsck` of a restored wall. Takes memory for the manifest and one object, and 64 bytes a link of the
 * folder for temporary files. `onTile`: full tiles of the tree, for who restores it.
 * @throws SignetError ARCHIVE_INVALID, ARCHIVE_UNAVAILABLE, NOTE_UNTRUSTED
 */
export async function verifyArchive(
  store: ObjectStore,
  manifest: ArchiveManifest,
  publicKeys: readonly KeyObject[],
  onTile: (tile: RebuiltTile) => Promise<void> = async () => undefined,
): Promise<ArchiveReport> {
  const head = openArchivedCheckpoint(manifest.checkpoint, publicKeys)
  if (head.size !== manifest.tree_size)
    throw invalid(`the checkpoint is of ${head.size} leaves, the manifest says ${manifest.tree_size}`)
  const leaves = await LeafFile.open()
  try {
    const chains = new Map<string, Chain>()
    let records = 0
    for (const tenant of manifest.tenants) {
      const chain = { from: leaves.size, links: tenant.last_seq }
      if (chains.has(tenant.tenant)) throw invalid(`the manifest names tenant ${tenant.tenant} twice`)
      chains.set(tenant.tenant, chain)
      await readChain(store, tenant, leaves)
      records += await checkRecords(store, tenant, { leaves, chain })
    }
    for (const objects of Object.values(manifest.tables)) for (const object of objects) await readRows(store, object)
    const tree = await rebuildTree(store, manifest.runs, { leaves, chains }, onTile)
    if (tree.size !== head.size || !tree.root.equals(head.root))
      throw invalid(`the links do not give the root that was signed for ${head.size} leaves`)
    return { tenants: manifest.tenants.length, links: leaves.size, records, leaves: tree.size }
  } finally {
    await leaves.close()
  }
}

/** Where a tenant's links are among the leaves. */
type Chain = { readonly from: number; readonly links: number }

async function rebuildTree(
  store: ObjectStore,
  runs: readonly ArchiveObject[],
  { leaves, chains }: { readonly leaves: LeafFile; readonly chains: ReadonlyMap<string, Chain> },
  onTile: (tile: RebuiltTile) => Promise<void>,
): Promise<TreeRebuild> {
  const tree = new TreeRebuild()
  for await (const run of eachRow(store, runs)) {
    const [tenant, first, count] = [String(run['tenant']), Number(run['first_seq']), Number(run['count'])]
    if (Number(run['first_leaf']) !== tree.size) throw invalid(`the run at leaf ${tree.size} of the tree is missing`)
    const { from, links } = chains.get(tenant) ?? { from: 0, links: 0 }
    for (let seq = first; seq < first + count; seq++) {
      if (seq < 1 || seq > links) throw invalid(`link ${seq} of tenant ${tenant} is missing`)
      const full: RebuiltTile[] = []
      tree.add(leafHash(await leaves.at(from + seq - 1)), (tile) => full.push(tile))
      for (const tile of full) await onTile(tile)
    }
  }
  return tree
}

/** Commitment and hash of each link, one after the other. */
async function readChain(
  store: ObjectStore,
  { tenant, last_seq: last, head, links }: ArchiveTenant,
  leaves: LeafFile,
): Promise<void> {
  let seq = 0
  let previous = ZEROS
  for (const object of links) {
    const some: Buffer[] = []
    for (const link of await readRows(store, object)) {
      seq++
      if (link['tenant'] !== tenant || link['seq'] !== seq || seq > last)
        throw invalid(`link ${seq} of tenant ${tenant} is not where it belongs`)
      if (hexOf(link, 'previous_hash') !== previous)
        throw invalid(`link ${seq} of tenant ${tenant} does not go on from the one before it`)
      previous = hexOf(link, 'hash')
      const leaf = Buffer.from(hexOf(link, 'commitment') + previous, 'hex')
      if (leaf.length !== LEAF_BYTES)
        throw invalid(`link ${seq} of tenant ${tenant} has no commitment and hash of 32 bytes`)
      some.push(leaf)
    }
    await leaves.append(Buffer.concat(some))
  }
  if (seq !== last || previous !== (last === 0 ? ZEROS : head))
    throw invalid(`the chain of tenant ${tenant} ends at ${seq}, the manifest says ${last}`)
}

async function checkRecords(
  store: ObjectStore,
  { tenant, parts }: ArchiveTenant,
  { leaves, chain }: { readonly leaves: LeafFile; readonly chain: Chain },
): Promise<number> {
  let records = 0
  for (const part of parts) {
    const whose = `${part.retention_class} ${part.month} of tenant ${tenant}`
    let found = 0
    let last = 0
    for (const object of part.objects) {
      for (const record of await readRows(store, object)) {
        const seq = Number(record['seq'])
        if (record['tenant'] !== tenant || !(seq > last)) throw invalid(`a record of ${whose} is not where it belongs`)
        if (found === 0 && seq !== part.first_seq) throw invalid(`the first record of ${whose} is missing`)
        if (!(seq <= chain.links)) throw invalid(`record ${seq} of tenant ${tenant} has no link`)
        const wanted = (await leaves.at(chain.from + seq - 1)).subarray(0, 32)
        const nonce = Buffer.from(hexOf(record, 'nonce'), 'hex')
        if (nonce.length !== 32 || !commitment(nonce, Buffer.from(hexOf(record, 'bytes'), 'hex')).equals(wanted))
          throw invalid(`record ${seq} of tenant ${tenant} is not what its link commits to`)
        found++
        last = seq
      }
    }
    if (found !== part.records || last !== part.last_seq)
      throw invalid(
        `${whose} has ${found} records up to ${last}, the manifest says ${part.records} up to ${part.last_seq}`,
      )
    for (const object of part.stamps) {
      for (const stamp of await readRows(store, object)) {
        if (digestText(Buffer.from(hexOf(stamp, 'stamp'), 'hex')) !== stamp['stamp_hash'])
          throw invalid(`a stamp of ${whose} is not the one of its hash`)
      }
    }
    records += found
  }
  return records
}

/** The rows of objects one after the other, one object at a time in memory. */
export async function* eachRow(store: ObjectStore, objects: readonly ArchiveObject[]): AsyncGenerator<Row> {
  for (const object of objects) yield* await readRows(store, object)
}

/** PostgreSQL writes bytea in JSON as `\x…`. */
function hexOf(row: Row, column: string): string {
  const value = row[column]
  if (typeof value !== 'string' || !/^\\x([0-9a-f]{2})*$/.test(value)) throw invalid(`a row has no ${column}`)
  return value.slice(2)
}

function invalid(what: string): SignetError {
  return new SignetError('ARCHIVE_INVALID', what)
}
