import { open, stat } from 'node:fs/promises'

/**
 * A bounded file of JSON lines beside the spool for what people must look at: refused events, contradictions of the ledger.
 * Each append is durable when it resolves.
 */
export class KeptFile {
  readonly path: string
  readonly #maxBytes: number

  constructor(path: string, maxBytes: number) {
    this.path = path
    this.#maxBytes = maxBytes
  }

  /** Appends values as one write; false (and nothing written) where the file would pass its limit. */
  async append(values: readonly unknown[]): Promise<boolean> {
    const lines = values.map((value) => `${JSON.stringify(value)}\n`).join('')
    const size = await this.#size()
    if (size + Buffer.byteLength(lines) + 1 > this.#maxBytes) return false
    const file = await open(this.path, 'a+', 0o600)
    try {
      // A crash within an append leaves half a line: the next one must not be glued to it.
      const last = Buffer.alloc(1)
      if (size > 0) await file.read(last, 0, 1, size - 1)
      await file.appendFile(size > 0 && last[0] !== 0x0a ? `\n${lines}` : lines)
      await file.sync()
    } finally {
      await file.close()
    }
    return true
  }

  async #size(): Promise<number> {
    try {
      return (await stat(this.path)).size
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return 0
      throw error
    }
  }
}
