import { readFileSync } from 'node:fs'
import { SignetError } from '#core/error/signet-error.ts'
import { parseVerifier, type NoteVerifier } from '#core/tree/note.ts'
import { UsageError } from '../usage.ts'

/** The log's verifiers that `--log-key` names: each `NAME+KEYID+BASE64` (c2sp.org/signed-note), or a file with one a line. @throws UsageError */
export function readLogKeys(flags: readonly string[]): NoteVerifier[] {
  return flags.flatMap((flag) => {
    const lines = /^[^\s+]+\+[0-9a-f]{8}\+\S+$/.test(flag) ? [flag] : readLines(flag)
    try {
      return lines.map((line) => parseVerifier(line))
    } catch (error) {
      if (error instanceof SignetError) throw new UsageError(`--log-key ${flag}: ${error.message}`)
      throw error
    }
  })
}

function readLines(file: string): string[] {
  let text: string
  try {
    text = readFileSync(file, 'utf8')
  } catch {
    throw new UsageError(`--log-key is ${file}: neither a verifier NAME+KEYID+BASE64 nor a file that can be read`)
  }
  const lines = text.split('\n').filter((line) => line !== '')
  if (lines.length === 0 || lines.length > 1_000) throw new UsageError(`--log-key ${file}: holds no verifier`)
  return lines
}
