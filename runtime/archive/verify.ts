import type { KeyObject } from 'node:crypto'
import type { ArchiveManifest, ArchiveObject, ArchiveTenant } from '#core/archive/manifest.ts'
import { commitment } from '#core/chain/link.ts'
import { digestText } from '#core/crypto/digest.ts'
import { SignetError } from '#core/error/signet-error.ts'
import { leafHash } from '#core/tree/hash.ts'
import { TreeRebuild, type RebuiltTile } from '#core/tree/rebuild.ts'
import type { ObjectStore } from './object-store.ts'
import { openArchivedCheckpoint, readRows, type Row } from './read.ts'

export type ArchiveReport = {
  readonly tenants: number
  readonly links: number
  readonly records: number
  readonly leaves: number
}

const LEAF_BYTES = 64
const ZEROS = '0'.repeat(64)

/**
 * Verifies a snapshot from the archive alone, with the log's public keys: every object against the manifest, every record against the
 * commitment of its link, each chain's order, and that all links together are the tree that the checkpoint was signed over. That the chain's
 * own key made the links says `signet fsck` of a restored wall. Takes 64 bytes of memory a link.
 * `onTile`: full tiles of the tree, for who restores it. @throws SignetError ARCHIVE_INVALID, ARCHIVE_UNAVAILABLE, NOTE_UNTRUSTED
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
  const leaves = new Map<string, Buffer>()
  let records = 0
  for (const tenant of manifest.tenants) {
    const chain = await readChain(store, tenant)
    leaves.set(tenant.tenant, chain)
    records += await checkRecords(store, tenant, chain)
  }
  for (const objects of Object.values(manifest.tables)) for (const object of objects) await readRows(store, object)

  const tree = new TreeRebuild()
  for (const run of await rowsOf(store, manifest.runs)) {
    const [tenant, first, count] = [String(run['tenant']), Number(run['first_seq']), Number(run['count'])]
    if (Number(run['first_leaf']) !== tree.size) throw invalid(`the run at leaf ${tree.size} of the tree is missing`)
    const chain = leaves.get(tenant) ?? Buffer.alloc(0)
    for (let seq = first; seq < first + count; seq++) {
      const leaf = chain.subarray((seq - 1) * LEAF_BYTES, seq * LEAF_BYTES)
      if (leaf.length !== LEAF_BYTES) throw invalid(`link ${seq} of tenant ${tenant} is missing`)
      const full: RebuiltTile[] = []
      tree.add(leafHash(leaf), (tile) => full.push(tile))
      for (const tile of full) await onTile(tile)
    }
  }
  if (tree.size !== head.size || !tree.root.equals(head.root))
    throw invalid(`the links do not give the root that was signed for ${head.size} leaves`)
  const links = manifest.tenants.reduce((sum, { last_seq: last }) => sum + last, 0)
  return { tenants: manifest.tenants.length, links, records, leaves: tree.size }
}

/** Commitment and hash of each link, one after the other. */
async function readChain(store: ObjectStore, { tenant, last_seq: last, head, links }: ArchiveTenant): Promise<Buffer> {
  const chain = Buffer.alloc(last * LEAF_BYTES)
  let seq = 0
  let previous = ZEROS
  for (const object of links) {
    for (const link of await readRows(store, object)) {
      seq++
      if (link['tenant'] !== tenant || link['seq'] !== seq || seq > last)
        throw invalid(`link ${seq} of tenant ${tenant} is not where it belongs`)
      if (hexOf(link, 'previous_hash') !== previous)
        throw invalid(`link ${seq} of tenant ${tenant} does not go on from the one before it`)
      previous = hexOf(link, 'hash')
      chain.write(hexOf(link, 'commitment') + previous, (seq - 1) * LEAF_BYTES, 'hex')
    }
  }
  if (seq !== last || previous !== (last === 0 ? ZEROS : head))
    throw invalid(`the chain of tenant ${tenant} ends at ${seq}, the manifest says ${last}`)
  return chain
}

async function checkRecords(store: ObjectStore, { tenant, parts }: ArchiveTenant, chain: Buffer): Promise<number> {
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
        const wanted = chain.subarray((seq - 1) * LEAF_BYTES, (seq - 1) * LEAF_BYTES + 32)
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

export async function rowsOf(store: ObjectStore, objects: readonly ArchiveObject[]): Promise<Row[]> {
  const all: Row[] = []
  for (const object of objects) for (const row of await readRows(store, object)) all.push(row)
  return all
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
