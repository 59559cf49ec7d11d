import { readFile } from 'node:fs/promises'
import { SignetError } from '#core/error/signet-error.ts'

/** @throws SignetError CONFIG_INVALID naming the variable and the file */
export async function readConfigFile(variable: string, path: string): Promise<string> {
  try {
    return await readFile(path, 'utf8')
  } catch (cause) {
    const reason = cause instanceof Error && 'code' in cause ? String(cause.code) : 'unreadable'
    throw new SignetError(
      'CONFIG_INVALID',
      `${variable} is ${JSON.stringify(path)}, which cannot be read (${reason})`,
      { cause },
    )
  }
}
