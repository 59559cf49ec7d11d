import { SignetError } from '#core/error/signet-error.ts'
import {
  LINEAGE_ASSET,
  LINEAGE_DIGEST,
  LINEAGE_HEADERS,
  LINEAGE_NAME,
  LINEAGE_TIMESTAMP,
  MAX_LINEAGE_ITEMS,
} from '#core/lineage/headers.ts'
import { CLASSIFICATIONS, type Classification } from '#core/stamp/schema.ts'
import { isRealTimestamp } from '#core/time/timestamp.ts'

/** What an application says of an answer; its proxy puts it into the stamp (docs/reference/lineage.md). */
export type Lineage = {
  /** Immutable ids: `urn:…@sha256:…`. */
  readonly sourceAssets?: readonly string[]
  readonly transformations?: readonly string[]
  readonly modelVersion?: string
  readonly inputHash?: string
  /** When the data were made, `2026-11-23T09:30:00.123Z`: the stamp is not older. */
  readonly timestampUtc?: string
  /** Can raise what the rules say, never lower it. */
  readonly classification?: Classification
  /** Matched against the version of an approval. */
  readonly artifactVersion?: string
}

const FORMS: {
  readonly [Name in keyof Lineage]-?: { readonly allowed: string; readonly fits: (text: string) => boolean }
} = {
  sourceAssets: {
    allowed: 'an id that ends in @sha256: and 64 hex digits, without a comma',
    fits: (text) => LINEAGE_ASSET.test(text) && !text.includes(','),
  },
  transformations: {
    allowed: '1 to 512 visible characters of ASCII, without a comma or space around',
    fits: (text) => isName(text) && !text.includes(','),
  },
  modelVersion: { allowed: '1 to 512 visible characters of ASCII, without space around', fits: isName },
  inputHash: { allowed: 'sha256: and 64 lowercase hex digits', fits: (text) => LINEAGE_DIGEST.test(text) },
  timestampUtc: {
    allowed: 'a time of the form 2026-11-23T09:30:00.123Z',
    fits: (text) => LINEAGE_TIMESTAMP.test(text) && isRealTimestamp(text),
  },
  classification: {
    allowed: `one of ${CLASSIFICATIONS.join(', ')}`,
    fits: (text) => CLASSIFICATIONS.some((each) => each === text),
  },
  artifactVersion: { allowed: '1 to 512 visible characters of ASCII, without space around', fits: isName },
}

/**
 * The response headers that declare lineage. The proxy leaves out what does not fit; here it is refused, so that it shows.
 * @throws SignetError CONFIG_INVALID naming the member and what is allowed
 */
export function lineageHeaders(lineage: Lineage): Record<string, string> {
  const headers: Record<string, string> = {}
  for (const [name, value] of Object.entries(lineage) as [keyof Lineage, string | readonly string[] | undefined][]) {
    if (value === undefined) continue
    if (!Object.hasOwn(FORMS, name)) throw invalid(name, 'no member of lineage has this name')
    const items = typeof value === 'string' ? [value] : value
    const { allowed, fits } = FORMS[name]
    if (items.length > MAX_LINEAGE_ITEMS) throw invalid(name, `there are ${MAX_LINEAGE_ITEMS} items at most`)
    if (!items.every((item) => fits(item))) throw invalid(name, `must be ${allowed}`)
    if (items.length > 0) headers[LINEAGE_HEADERS[name]] = items.join(', ')
  }
  return headers
}

/** A name that comes out of a header as it went in. */
function isName(text: string): boolean {
  return LINEAGE_NAME.test(text) && text.trim() === text
}

function invalid(name: string, what: string): SignetError {
  return new SignetError('CONFIG_INVALID', `the lineage to declare at /${name}: ${what}`, {
    details: { path: `/${name}` },
  })
}
