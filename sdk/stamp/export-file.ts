import { createHash, randomUUID } from 'node:crypto'
import { link, open, rename, rm, type FileHandle } from 'node:fs/promises'
import path from 'node:path'
import { SignetError } from '#core/error/signet-error.ts'
import type { SignedStamp } from '#core/stamp/sign.ts'
import type { StampContext, StampSigner } from './attach-stamp.ts'

/** A chunk at a time: of any size in all, at the cost of one chunk in memory. */
export type FileContent = Uint8Array | Iterable<Uint8Array | string> | AsyncIterable<Uint8Array | string>

export type ExportOptions = {
  /** Whether a file of that name is replaced. Default false: an artefact, once published, does not change. */
  readonly replace?: boolean
}

export const SIDECAR_SUFFIX = '.stamp.json'

/**
 * Writes `file` and its stamp `file.stamp.json` so that nobody sees the file before its stamp: both are written under other names in the same
 * folder and synced, then the stamp gets its name, then the file. A crash leaves at most the stamp, or a hidden `.NAME.….tmp`.
 * With `replace`, a reader between the two renames finds a stamp that does not match, never an unstamped file.
 * @throws SignetError CONFLICT where the name is taken and `replace` is not set; STAMP_INVALID for a `jcs` context (a file is stamped by its
 * bytes) and as the signer does; what the file system or `content` throws. Nothing is left then
 */
export async function exportStamped(
  file: string,
  content: FileContent,
  context: StampContext,
  sign: StampSigner,
  { replace = false }: ExportOptions = {},
): Promise<SignedStamp> {
  if (context.canonicalization === 'jcs')
    throw new SignetError('STAMP_INVALID', 'a file is stamped by its bytes: `canonicalization` must be `bytes`')
  const hidden = path.join(path.dirname(file), `.${path.basename(file)}.${randomUUID()}`)
  const written = { file: `${hidden}.tmp`, sidecar: `${hidden}${SIDECAR_SUFFIX}.tmp` }
  try {
    const payload = await writeSynced(written.file, content)
    const signed = sign(payload, context)
    await writeSynced(written.sidecar, Buffer.from(signed.jcs))
    await publish(written, file, replace)
    await syncFolder(path.dirname(file))
    return signed
  } finally {
    await Promise.all(Object.values(written).map((name) => rm(name, { force: true })))
  }
}

async function publish(written: { file: string; sidecar: string }, file: string, replace: boolean): Promise<void> {
  const sidecar = file + SIDECAR_SUFFIX
  if (replace) {
    await rename(written.sidecar, sidecar)
    await rename(written.file, file)
    return
  }
  // A link fails where the name is taken, a rename does not.
  await linkNew(written.sidecar, sidecar)
  try {
    await linkNew(written.file, file)
  } catch (error) {
    await rm(sidecar)
    throw error
  }
}

async function linkNew(from: string, to: string): Promise<void> {
  try {
    await link(from, to)
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code !== 'EEXIST') throw cause
    throw new SignetError('CONFLICT', `${to} is there already; give another name, or set \`replace\``, { cause })
  }
}

async function writeSynced(name: string, content: FileContent) {
  const hash = createHash('sha256')
  let length = 0
  const handle = await open(name, 'wx', 0o640)
  try {
    for await (const chunk of content instanceof Uint8Array ? [content] : content) {
      const bytes = typeof chunk === 'string' ? Buffer.from(chunk) : chunk
      hash.update(bytes)
      length += bytes.byteLength
      await writeAll(handle, bytes)
    }
    await handle.sync()
  } finally {
    await handle.close()
  }
  return { digest: hash.digest(), length }
}

/** One write may take less than it was given. */
async function writeAll(handle: FileHandle, bytes: Uint8Array): Promise<void> {
  for (let at = 0; at < bytes.byteLength;) at += (await handle.write(bytes, at)).bytesWritten
}

/** A name is on disk when its folder is. */
async function syncFolder(folder: string): Promise<void> {
  const handle = await open(folder, 'r')
  try {
    await handle.sync()
  } finally {
    await handle.close()
  }
}
