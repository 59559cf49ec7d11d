import { readFile } from 'node:fs/promises'
import { SignetError } from '#core/error/signet-error.ts'
import { findStamps } from '#core/stamp/content.ts'
import { UsageError } from '../usage.ts'
import { isMissing, type Evidence } from './evidence.ts'

/**
 * A file and its stamps: the one inside it, and that of `sidecar` or `stampHeader` where given; without any of them `NAME.stamp.json`
 * beside it. Every stamp found has to verify.
 * @throws UsageError for a file that cannot be read; SignetError as `findStamps` does
 */
export async function evidenceOfFile(
  file: string,
  options: { sidecar?: string | undefined; stampHeader?: string | undefined },
): Promise<Omit<Evidence, 'expected'>> {
  const content = await read(file)
  const sidecar = options.sidecar === undefined ? undefined : await read(options.sidecar)
  const place =
    options.sidecar !== undefined
      ? `in ${options.sidecar}`
      : options.stampHeader !== undefined
        ? 'in the header given'
        : 'in the file'
  try {
    return { ...findStamps(content, { sidecar, header: options.stampHeader }), place }
  } catch (error) {
    if (!isMissing(error) || sidecar !== undefined || options.stampHeader !== undefined) throw error
    const beside = `${file}.stamp.json`
    const stampBytes = await readFile(beside).catch(() => null)
    if (stampBytes !== null) return { ...findStamps(content, { sidecar: stampBytes }), place: `in ${beside}` }
    throw error.code === 'STAMP_MISSING'
      ? new SignetError('STAMP_MISSING', `there is no stamp in ${file}, and no ${beside}`)
      : error
  }
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
