import { mkdtemp, open, rm, type FileHandle } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { SignetError } from '#core/error/signet-error.ts'

/** Commitment and hash of a link. */
export const LEAF_BYTES = 64
/** Leaves that are read at once. */
const WINDOW = 4_096

/** Leaves in a temporary file, which is nobody else's and gone at the latest with the process: there may be more than fit in memory. */
export class LeafFile {
  readonly #file: FileHandle
  #size = 0
  #window = { from: 0, leaves: Buffer.alloc(0) }

  private constructor(file: FileHandle) {
    this.#file = file
  }

  static async open(): Promise<LeafFile> {
    const dir = await mkdtemp(path.join(tmpdir(), 'signet-archive-'))
    try {
      return new LeafFile(await open(path.join(dir, 'leaves'), 'wx+', 0o600))
    } finally {
      await rm(dir, { recursive: true, force: true })
    }
  }

  /** Leaves so far. */
  get size(): number {
    return this.#size
  }

  async append(leaves: Buffer): Promise<void> {
    for (let at = 0; at < leaves.length;) {
      const { bytesWritten } = await this.#file.write(leaves, at, leaves.length - at, this.#size * LEAF_BYTES + at)
      at += bytesWritten
    }
    this.#size += leaves.length / LEAF_BYTES
  }

  /** Valid until the next call. Fast for those that come one after the other. @throws SignetError ARCHIVE_INVALID where there is none */
  async at(index: number): Promise<Buffer> {
    const { from, leaves } = this.#window
    const offset = (index - from) * LEAF_BYTES
    if (offset >= 0 && offset < leaves.length) return leaves.subarray(offset, offset + LEAF_BYTES)
    const wanted = Math.min(WINDOW, this.#size - index) * LEAF_BYTES
    if (!(wanted > 0) || index < 0) throw new SignetError('ARCHIVE_INVALID', `there is no leaf ${index}`)
    const read = Buffer.alloc(wanted)
    for (let at = 0; at < wanted;) {
      const { bytesRead } = await this.#file.read(read, at, wanted - at, index * LEAF_BYTES + at)
      if (bytesRead === 0) throw new Error('the temporary file of leaves became shorter')
      at += bytesRead
    }
    this.#window = { from: index, leaves: read }
    return read.subarray(0, LEAF_BYTES)
  }

  async close(): Promise<void> {
    await this.#file.close()
  }
}
