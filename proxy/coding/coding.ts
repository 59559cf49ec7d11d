import { CodingFault } from './fault.ts'

/** Content codings that are removed and applied (RFC 1952, RFC 1950, RFC 7932, RFC 8878), by their name on the wire. */
export const CODINGS = ['zstd', 'br', 'gzip', 'deflate'] as const
export type Coding = (typeof CODINGS)[number]

/** A service that codes twice does so by mistake (a compressed file, compressed on its way); oftener, on purpose. */
const MAX_LAYERS = 2

/** The coding of this name, in any case; `x-gzip` is `gzip` (RFC 9110 §8.4.1.3). Null for one that is not known, and for `identity`. */
export function codingNamed(name: string): Coding | null {
  const lower = name.trim().toLowerCase()
  if (lower === 'x-gzip') return 'gzip'
  return CODINGS.find((coding) => coding === lower) ?? null
}

/**
 * Reads Content-Encoding: the codings in the order in which they were applied; none for `identity`.
 * @throws CodingFault `unknown` or `layers` where not all of them can be removed
 */
export function codingsOf(contentEncoding: string): readonly Coding[] {
  const found: Coding[] = []
  for (const part of contentEncoding.split(',')) {
    const name = part.trim().toLowerCase()
    if (name === '' || name === 'identity') continue
    const coding = codingNamed(name)
    if (coding === null)
      throw new CodingFault('unknown', `The service answered in a content coding that cannot be inspected; ${ALLOWED}`)
    if (found.push(coding) > MAX_LAYERS)
      throw new CodingFault('layers', `The service nested content codings; at most ${MAX_LAYERS} are removed`)
  }
  return found
}

const ALLOWED = `${CODINGS.join(', ')} can`
