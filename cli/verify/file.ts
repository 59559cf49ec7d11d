import { readFile } from 'node:fs/promises'
import { SignetError } from '#core/error/signet-error.ts'
import { UsageError } from '../usage.ts'
import { embeddedStamp, headerStamp, type Evidence } from './evidence.ts'

/**
 * A file and its stamp: of `sidecar` or `stampHeader` where given, else the one inside it, else `NAME.stamp.json` beside it.
 * @throws UsageError for a file that cannot be read; SignetError STAMP_MISSING, STAMP_INVALID, JSON_INVALID
 */
export async function evidenceOfFile(
  file: string,
  options: { sidecar?: string | undefined; stampHeader?: string | undefined },
): Promise<Omit<Evidence, 'expected'>> {
  const bytes = await read(file)
  if (options.sidecar !== undefined) {
    return { payload: bytes, stampBytes: await read(options.sidecar), place: `in ${options.sidecar}` }
  }
  if (options.stampHeader !== undefined) {
    const { stampBytes } = headerStamp(options.stampHeader)
    if (stampBytes === null)
      throw new UsageError('this Compliance-Stamp value is a hash alone; give the stamp itself with --sidecar')
    return { payload: bytes, stampBytes, place: 'in the header given' }
  }
  const { found, problem } = embeddedStamp(bytes)
  if (found !== null) return { ...found, place: 'in the file' }
  const beside = `${file}.stamp.json`
  const stampBytes = await readFile(beside).catch(() => null)
  if (stampBytes !== null) return { payload: bytes, stampBytes, place: `in ${beside}` }
  throw problem ?? new SignetError('STAMP_MISSING', `there is no stamp in ${file}, and no ${beside}`)
}

async function read(file: string): Promise<Buffer> {
  try {
    return await readFile(file)
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    const reason =
      code === 'ENOENT' ? 'there is no such file' : code === 'EISDIR' ? 'it is a folder' : (error as Error).message
    throw new UsageError(`cannot read ${file}: ${reason}`)
  }
}
