import { canonicalize } from '#core/canonical/jcs.ts'
import { boundOf, stated, type ArchivedCheckpoints, type ArchivedEnd } from '#runtime/archive/checkpoints.ts'
import { restoreKey } from '#runtime/archive/restores.ts'
import type { ObjectStore } from '#runtime/archive/object-store.ts'
import type { WallReader } from '#runtime/wall/reader.ts'
import { signRestore, type RestoreStatement, type StatedHead } from '#core/archive/restore.ts'
import { SignetError } from '#core/error/signet-error.ts'
import type { TreeHead } from '#core/tree/checkpoint.ts'
import { EMPTY_ROOT } from '#core/tree/hash.ts'
import type { LedgerKeys } from '../keys.ts'
import { readCheckpointRoot } from '../store/archive.ts'

/** A wall that was set back, or went another way: the last checkpoint that both have, and the last that the archive has. */
export type Contradiction = { readonly continues: StatedHead; readonly givesUp: StatedHead }

/** Whether the wall has signed this tree, by its own rows: which of its links were changed says the verifier. */
export async function holds(reader: WallReader, { size, root }: Pick<TreeHead, 'size' | 'root'>): Promise<boolean> {
  if (size === 0) return root.equals(EMPTY_ROOT)
  const found = await readCheckpointRoot(reader, size)
  return found?.equals(root) === true
}

/** CHAIN_BROKEN: nothing of this wall is archived, or it would hide what contradicts it. */
export function contradicts({ size }: Pick<TreeHead, 'size'>): SignetError {
  return new SignetError(
    'CHAIN_BROKEN',
    `the wall does not contain the archived checkpoint of ${size} leaves: it was set back, or is another one. If it was restored on purpose: POST /api/audit/archive/restores`,
    { details: { fault: 'rollback', size } },
  )
}

/**
 * Null where the wall contains the last checkpoint of the archive. Looks for the last that both have as in a sorted list: histories part once.
 * @throws SignetError ARCHIVE_UNAVAILABLE, ARCHIVE_INVALID, DATABASE_UNAVAILABLE
 */
export async function findContradiction(
  reader: WallReader,
  archived: ArchivedCheckpoints,
  { branch, newest, restores }: ArchivedEnd,
): Promise<Contradiction | null> {
  if (newest === null || (await holds(reader, newest))) return null
  const givesUp = textOf(newest)
  for (let at = branch; at >= 0; at--) {
    const base = at === 0 ? { size: 0, root: EMPTY_ROOT } : stated(restores[at - 1]!)
    if (!(await holds(reader, base))) continue
    // Of an earlier history only what later restores left of it counts.
    const end = at === branch ? newest.size : boundOf(at, restores) + 1
    return { continues: textOf(await lastHeld(reader, archived, { branch: at, base, end })), givesUp }
  }
  return { continues: textOf({ size: 0, root: EMPTY_ROOT }), givesUp }
}

type Head = Pick<TreeHead, 'size' | 'root'>

/** The last checkpoint of a history, from `base` on and below `end`, that the wall holds. */
async function lastHeld(
  reader: WallReader,
  archived: ArchivedCheckpoints,
  { branch, base, end }: { readonly branch: number; readonly base: Head; readonly end: number },
): Promise<Head> {
  let last = base
  // No checkpoint that the wall holds is above `high`; none at all is above it and below `before`.
  let high = end - 1
  let before = end
  while (last.size < high) {
    const middle = last.size + Math.floor((high - last.size) / 2)
    const heads = await archived.after(branch, middle, before)
    const held = heads === null ? undefined : await firstHeld(reader, heads)
    if (held !== undefined) last = held
    else {
      high = middle
      before = heads?.[0]?.size ?? before
    }
  }
  return last
}

async function firstHeld(reader: WallReader, heads: readonly TreeHead[]): Promise<TreeHead | undefined> {
  for (const head of heads) if (await holds(reader, head)) return head
  return undefined
}

function textOf({ size, root }: Head): StatedHead {
  return { size, root: root.toString('hex') }
}

export type Statement = { readonly reason: string; readonly by: string; readonly givesUp: number }

/**
 * Says, signed and under lock, that the wall was restored on purpose. `record` puts it into the chain first: a statement that the chain does not
 * have must not be. One process at a time.
 * @throws SignetError CONFLICT where nothing contradicts the wall, or something else is given up than what was named
 */
export async function stateRestore(
  deps: {
    readonly reader: WallReader
    readonly archived: ArchivedCheckpoints
    readonly store: ObjectStore
    readonly keys: LedgerKeys
    readonly origin: string
    readonly clock: () => Date
    readonly retainUntil: Date
    readonly record: (unsigned: Omit<RestoreStatement, 'signature'>) => Promise<void>
  },
  { reason, by, givesUp }: Statement,
): Promise<RestoreStatement> {
  const { reader, archived, store, keys, origin, clock } = deps
  await store.requireLock()
  const end = await archived.end()
  const found = await findContradiction(reader, archived, end)
  if (found === null)
    throw new SignetError('CONFLICT', 'the wall contains the last checkpoint of the archive: there is nothing to state')
  if (found.givesUp.size !== givesUp)
    throw new SignetError(
      'CONFLICT',
      `the archive goes to ${found.givesUp.size} leaves, and the wall goes on from ${found.continues.size} of them: if they are to be given up, say so with gives_up`,
    )
  const at = clock()
  const ack = keys.ackKey(at)
  const unsigned: Omit<RestoreStatement, 'signature'> = {
    version: 1,
    number: end.branch + 1,
    origin,
    at: at.toISOString(),
    continues: found.continues,
    gives_up: found.givesUp,
    reason,
    by,
    key_id: ack.keyId,
  }
  await deps.record(unsigned)
  const statement = signRestore(unsigned, ack.privateKey)
  await store.put(restoreKey(unsigned.number), Buffer.from(canonicalize(statement)), deps.retainUntil)
  const stored = (await archived.end()).restores.at(-1)
  if (stored?.signature !== statement.signature)
    throw new SignetError('ARCHIVE_INVALID', 'the statement of the restore is not what was written')
  return statement
}
