import { digestText } from '../crypto/digest.ts'
import { SignetError } from '../error/signet-error.ts'
import { parseStampHeader } from './header.ts'
import { extractStamp } from './splice.ts'

/** Stamps that came beside the content: a sidecar's bytes, a `Compliance-Stamp` value. */
export type StampsBeside = { readonly sidecar?: Uint8Array | undefined; readonly header?: string | undefined }

/** All stamps of a content, none verified, and the payload that each of them must be over. */
export type FoundStamps = { readonly payload: Uint8Array; readonly stamps: readonly Uint8Array[] }

const OPEN_OBJECT = 0x7b
const WHITE_SPACE: ReadonlySet<number> = new Set([0x20, 0x09, 0x0a, 0x0d])

/**
 * Finds the stamps of a content (without Content-Encoding). Every one of them must verify: a stamp beside the content does not
 * excuse one inside.
 * @throws SignetError STAMP_INVALID (a foreign `_compliance`, a header of another form, a hash that is not the embedded stamp's);
 * STAMP_MISSING, or JSON_INVALID where the content begins like an object and is none, when there is no stamp at all
 */
export function findStamps(content: Uint8Array, beside: StampsBeside = {}): FoundStamps {
  const { embedded, problem } = findEmbedded(content)
  const stamps: Uint8Array[] = embedded === null ? [] : [embedded.stampBytes]
  if (beside.sidecar !== undefined) stamps.push(beside.sidecar)
  if (beside.header !== undefined) {
    const { hash, stampBytes } = parseStampHeader(beside.header)
    if (stampBytes !== undefined) stamps.push(stampBytes)
    else if (embedded === null)
      throw new SignetError(
        'STAMP_MISSING',
        'the Compliance-Stamp header is a hash alone, and the content carries no stamp',
      )
    else if (digestText(embedded.stampBytes) !== hash) {
      throw new SignetError('STAMP_INVALID', 'the Compliance-Stamp header has another hash than the embedded stamp', {
        details: { stated: hash, found: digestText(embedded.stampBytes) },
      })
    }
  }
  if (stamps.length === 0) throw problem ?? new SignetError('STAMP_MISSING', 'the content carries no stamp')
  return { payload: embedded?.payload ?? content, stamps }
}

function findEmbedded(content: Uint8Array): { embedded: ReturnType<typeof extractStamp>; problem: SignetError | null } {
  if (content.find((byte) => !WHITE_SPACE.has(byte)) !== OPEN_OBJECT) return { embedded: null, problem: null }
  try {
    return { embedded: extractStamp(content), problem: null }
  } catch (error) {
    // Content that is no JSON has nothing embedded, but may have a stamp beside it.
    if (error instanceof SignetError && error.code === 'JSON_INVALID') return { embedded: null, problem: error }
    throw error
  }
}
