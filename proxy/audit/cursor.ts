import { readFileSync } from 'node:fs'
import { open, rename } from 'node:fs/promises'
import { join } from 'node:path'
import Type from 'typebox'
import { Compile } from 'typebox/compile'
import { Checkpoint } from '#core/audit/wire.ts'
import { realDisk } from './disk.ts'

const FILE = 'cursor.json'

/**
 * How far the spool is done with: everything before (`segment`, `offset`) is acknowledged by the ledger or in the dead-letter
 * file. It may lag behind the truth (the ledger recognises what is sent again), never run ahead. `checkpoint`: the last head of
 * the chain that the ledger signed to this spool, so that a ledger set back between two runs is noticed.
 */
export const Cursor = Type.Object({
  version: Type.Literal(1),
  segment: Type.Integer({ minimum: 0, maximum: Number.MAX_SAFE_INTEGER }),
  offset: Type.Integer({ minimum: 0, maximum: Number.MAX_SAFE_INTEGER }),
  checkpoint: Type.Union([Type.Null(), Checkpoint]),
})
export type Cursor = Type.Static<typeof Cursor>

const validator = Compile(Cursor)
const START_CURSOR: Cursor = { version: 1, segment: 0, offset: 0, checkpoint: null }

/** Reads the cursor of a spool; `START_CURSOR` and `damaged` where it cannot be read: then all is sent again. */
export function loadCursor(dir: string): { cursor: Cursor; damaged: boolean } {
  let text: string
  try {
    text = readFileSync(join(dir, FILE), 'utf8')
  } catch (error) {
    return { cursor: START_CURSOR, damaged: (error as NodeJS.ErrnoException).code !== 'ENOENT' }
  }
  try {
    const value: unknown = JSON.parse(text)
    if (validator.Check(value)) return { cursor: value, damaged: false }
  } catch {
    // Not JSON: damaged.
  }
  return { cursor: START_CURSOR, damaged: true }
}

/** Replaces the cursor durably: a crash leaves the old one or the new one. */
export async function saveCursor(dir: string, cursor: Cursor): Promise<void> {
  const temporary = join(dir, `${FILE}.tmp`)
  const file = await open(temporary, 'w', 0o600)
  try {
    await file.writeFile(JSON.stringify(cursor))
    await file.sync()
  } finally {
    await file.close()
  }
  await rename(temporary, join(dir, FILE))
  await realDisk.syncDirectory(dir)
}
