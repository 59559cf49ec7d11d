import { mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs'
import path from 'node:path'

/** The highest bundle sequence that was ever in force here. */
export type SequenceFloor = { readonly floor: number; raise(sequence: number): void }

/**
 * Keeps it over a restart, so that a rollback is refused then, too. Beside the spool, which is the one folder that the proxy may write.
 * A file that cannot be read counts as none: it guards against old bundles, and is no reason not to start.
 */
export function openSequenceFloor(directory: string): SequenceFloor {
  const file = path.join(directory, 'bundle-sequence')
  let floor = 0
  try {
    const text = readFileSync(file, 'utf8').trim()
    if (/^\d{1,15}$/.test(text)) floor = Number(text)
  } catch {
    // The first start.
  }
  return {
    get floor() {
      return floor
    },
    raise(sequence) {
      if (sequence <= floor) return
      floor = sequence
      mkdirSync(directory, { recursive: true })
      writeFileSync(`${file}.new`, `${sequence}\n`, { mode: 0o600 })
      renameSync(`${file}.new`, file)
    },
  }
}
