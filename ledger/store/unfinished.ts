import type { ArchiveObject } from '#core/archive/manifest.ts'
import { query, type Pool } from '#runtime/postgres/transaction.ts'

/** A snapshot that was begun. `previous`: the one that it adds to. */
export type Unfinished = {
  readonly snapshot: string
  readonly madeAt: Date
  readonly treeSize: number
  readonly note: string
  readonly previous: string | null
}
/** `section`: the rows that it is a part of; `lastAt`: the place of its last one among them. */
export type WrittenObject = {
  readonly number: number
  readonly section: string
  readonly lastAt: number
  readonly object: ArchiveObject
}

/** The last that was begun and not ended; null where there is none. */
export async function readUnfinished(work: Pool): Promise<Unfinished | null> {
  const [row] = await query<{
    snapshot: string
    made_at: Date
    tree_size: string
    note: string
    previous: string | null
  }>(
    work,
    'SELECT snapshot, made_at, tree_size, note, previous FROM signet.archive_unfinished ORDER BY made_at DESC LIMIT 1',
  )
  if (row === undefined) return null
  const { snapshot, made_at: madeAt, note, previous } = row
  return { snapshot, madeAt, treeSize: Number(row.tree_size), note, previous }
}

/** In place of any other. */
export async function beginUnfinished(work: Pool, of: Unfinished): Promise<void> {
  await endUnfinished(work)
  await query(
    work,
    'INSERT INTO signet.archive_unfinished (snapshot, made_at, tree_size, note, previous) VALUES ($1, $2, $3, $4, $5)',
    [of.snapshot, of.madeAt, of.treeSize, of.note, of.previous],
  )
}

export async function endUnfinished(work: Pool): Promise<void> {
  await query(work, 'DELETE FROM signet.archive_unfinished')
}

export async function readWritten(work: Pool, snapshot: string): Promise<WrittenObject[]> {
  const rows = await query<{ number: number; section: string; last_at: string; object: ArchiveObject }>(
    work,
    'SELECT number, section, last_at, object FROM signet.archive_unfinished_objects WHERE snapshot = $1 ORDER BY number',
    [snapshot],
  )
  return rows.map(({ number, section, last_at: lastAt, object }) => ({
    number,
    section,
    lastAt: Number(lastAt),
    object,
  }))
}

export async function saveWritten(work: Pool, snapshot: string, of: WrittenObject): Promise<void> {
  await query(
    work,
    'INSERT INTO signet.archive_unfinished_objects (snapshot, number, section, last_at, object) VALUES ($1, $2, $3, $4, $5)',
    [snapshot, of.number, of.section, of.lastAt, JSON.stringify(of.object)],
  )
}
