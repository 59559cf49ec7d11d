import { readdirSync, readFileSync } from 'node:fs'
import type { ExpectedAnswer, StampVector, StampVectorFile } from '#tools/generate-stamp-vectors.ts'

export const STAMP_VECTORS = new URL('./stamp/', import.meta.url)

/** A vector, its texts and base64 read into bytes. */
export type StampVectorCase = {
  readonly name: string
  readonly content: Buffer
  readonly sidecar: Buffer | undefined
  readonly header: string | undefined
  readonly expected: ExpectedAnswer
  readonly want: StampVector['want']
}

export function readKeyringText(): string {
  return readFileSync(new URL('keyring.json', STAMP_VECTORS), 'utf8')
}

export function readStampVectors(): { file: string; cases: StampVectorCase[] }[] {
  return readdirSync(STAMP_VECTORS)
    .filter((file) => file !== 'keyring.json')
    .map((file) => {
      const { cases } = JSON.parse(readFileSync(new URL(file, STAMP_VECTORS), 'utf8')) as StampVectorFile
      return { file, cases: cases.map(read) }
    })
}

function read(vector: StampVector): StampVectorCase {
  const { name, header, want, expected = {} } = vector
  const content = bytesOf(vector.body, vector.body_base64)
  if (content === undefined) throw new Error(`the vector «${name}» has no content`)
  return { name, content, sidecar: bytesOf(vector.sidecar, vector.sidecar_base64), header, expected, want }
}

function bytesOf(text: string | undefined, base64: string | undefined): Buffer | undefined {
  if (text !== undefined) return Buffer.from(text)
  return base64 === undefined ? undefined : Buffer.from(base64, 'base64')
}
