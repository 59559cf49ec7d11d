import { readFileSync } from 'node:fs'
import { SignetError } from '#core/error/signet-error.ts'

/** The text of a file that the configuration names. @throws SignetError CONFIG_INVALID naming the variable */
export function readRequired(variable: string, path: string): string {
  try {
    return readFileSync(path, 'utf8')
  } catch (cause) {
    throw new SignetError(
      'CONFIG_INVALID',
      `${variable} is ${JSON.stringify(path)}, which cannot be read: ${(cause as Error).message}`,
      { cause },
    )
  }
}
