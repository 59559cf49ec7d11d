import type { IncomingHttpHeaders } from 'node:http'
import {
  LINEAGE_ASSET,
  LINEAGE_DIGEST,
  LINEAGE_HEADERS,
  LINEAGE_NAME,
  LINEAGE_TIMESTAMP,
  MAX_LINEAGE_ITEMS,
} from '#core/lineage/headers.ts'

/**
 * Lineage that the application declares in response headers (`docs/reference/lineage.md`); every `Signet-…` field is stripped
 * before egress. Lists are comma-separated. A value that does not fit is dropped and named in `ignored`, so that it shows in the
 * audit event instead of breaking the answer; the classification is kept as it is, for the policy to judge.
 */
export type DeclaredLineage = {
  readonly sourceAssets: readonly string[]
  readonly transformations: readonly string[]
  readonly modelVersion: string | undefined
  readonly inputHash: string | undefined
  readonly timestampUtc: string | undefined
  readonly classification: string | undefined
  readonly artifactVersion: string | undefined
  readonly ignored: readonly string[]
}

/** Of an application that declares nothing; always this object. */
export const NO_LINEAGE: DeclaredLineage = Object.freeze({
  sourceAssets: [],
  transformations: [],
  modelVersion: undefined,
  inputHash: undefined,
  timestampUtc: undefined,
  classification: undefined,
  artifactVersion: undefined,
  ignored: [],
})

/** A clock may be this much ahead of ours before its timestamps count as wrong. */
const MAX_SKEW_MS = 5 * 60_000

export function declaredLineage(headers: IncomingHttpHeaders, nowMs: number): DeclaredLineage {
  let any = false
  for (const name in headers) {
    if (name.startsWith('signet-')) {
      any = true
      break
    }
  }
  if (!any) return NO_LINEAGE
  const ignored: string[] = []
  const list = (name: string, form: RegExp): string[] => {
    const value = headers[name]
    if (value === undefined) return []
    const items = String(value)
      .split(',')
      .map((item) => item.trim())
      .filter((item) => item !== '')
    const kept = items.filter((item) => form.test(item)).slice(0, MAX_LINEAGE_ITEMS)
    if (kept.length !== items.length) ignored.push(name)
    return kept
  }
  const single = (name: string, form: RegExp): string | undefined => {
    const value = headers[name]
    if (value === undefined) return undefined
    const text = String(value).trim()
    if (form.test(text)) return text
    ignored.push(name)
    return undefined
  }
  const timestampUtc = single(LINEAGE_HEADERS.timestampUtc, LINEAGE_TIMESTAMP)
  const isUsable = timestampUtc !== undefined && Date.parse(timestampUtc) <= nowMs + MAX_SKEW_MS
  if (timestampUtc !== undefined && !isUsable) ignored.push(LINEAGE_HEADERS.timestampUtc)
  return {
    sourceAssets: list(LINEAGE_HEADERS.sourceAssets, LINEAGE_ASSET),
    transformations: list(LINEAGE_HEADERS.transformations, LINEAGE_NAME),
    modelVersion: single(LINEAGE_HEADERS.modelVersion, LINEAGE_NAME),
    inputHash: single(LINEAGE_HEADERS.inputHash, LINEAGE_DIGEST),
    timestampUtc: isUsable ? timestampUtc : undefined,
    // Whatever it is: the rule takes what is no classification for the highest.
    classification: presentValue(headers[LINEAGE_HEADERS.classification]),
    artifactVersion: single(LINEAGE_HEADERS.artifactVersion, LINEAGE_NAME),
    ignored,
  }
}

/** Present, even if it is empty or garbled: shown printable and cut. */
function presentValue(value: string | string[] | undefined): string | undefined {
  if (value === undefined) return undefined
  const text = String(value)
    .replace(/[^\x20-\x7e]/g, '?')
    .trim()
    .slice(0, 128)
  return text === '' ? '(empty)' : text
}
