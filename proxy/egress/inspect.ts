import type { IncomingHttpHeaders } from 'node:http'
import { SignetError } from '#core/error/signet-error.ts'
import type { Fact, FactName } from '#core/policy/decision.ts'
import { scanStructure, type StructureScan } from '#core/json/scan.ts'
import { parseStrict } from '#core/json/strict.ts'
import { stripComplianceMembers, extractStamp } from '#core/stamp/splice.ts'
import type { VerifiedStamp } from '#core/stamp/verify.ts'
import { detectFacts } from '#engine/detect/detect.ts'
import { detectInText } from '#engine/detect/header.ts'
import { isReadableType, readingOfContent } from '#engine/detect/reading.ts'
import { isJson } from '../http/media-type.ts'
import type { Policy } from '../policy/policy.ts'

/** What the body of an answer is found to be, before any rule judges it. */
export type Inspection = {
  /** The content to stamp: decoded, and without whatever stood in the place of a stamp. */
  readonly payload: Buffer
  /** Where to splice, for a JSON object. */
  readonly object: { readonly closeBrace: number; readonly isEmpty: boolean } | null
  readonly upstreamStamp: 'none' | 'verified' | 'forged'
  readonly verified: VerifiedStamp | null
  /** A forgery that could not be taken out of `payload`. */
  readonly isUnstrippable: boolean
  readonly facts: Partial<Record<FactName, Fact>>
  /** The exact bytes of a strictly parsed JSON body, where a rule reads it. */
  readonly body: Buffer | undefined
  /** Dotted paths below `input` that could not be determined. */
  readonly undecidable: readonly string[]
}

export type StampCheck = (stampBytes: Buffer, payload: Buffer) => VerifiedStamp | null

const NO_BODY = Buffer.alloc(0)
const NOTHING: readonly string[] = []

/** A message without content (HEAD, 204, 304): every detector is decidable, as there is nothing to read. */
export function inspectNothing(policy: Policy): Inspection {
  return {
    payload: NO_BODY,
    object: null,
    upstreamStamp: 'none',
    verified: null,
    isUnstrippable: false,
    facts: absentFacts(policy.wantedFacts),
    body: undefined,
    undecidable: NOTHING,
  }
}

/**
 * A body that is not read to its end before the first byte leaves: undecidable, unless it is of a type that no detector reads, or begins
 * (`prefix`, as much as was held; empty for nothing) as only binary content does.
 */
export function inspectUnread(policy: Policy, mediaType: string, prefix: Buffer): Inspection {
  const readable = isReadableType(mediaType)
  const isRead = readable === 'always' || (readable === 'by-content' && !isBinary(prefix, mediaType))
  const undecidable = isRead ? [...policy.wantedFacts].map((name) => `response.facts.${name}`) : []
  if (policy.readsBody) undecidable.push('response.body')
  if (isJson(mediaType)) undecidable.push('response.upstream_stamp')
  return { ...inspectNothing(policy), facts: isRead ? {} : absentFacts(policy.wantedFacts), undecidable }
}

/** What is no text in its beginning is none as a whole. A character that the cut went through is not held against it. */
function isBinary(prefix: Buffer, mediaType: string): boolean {
  if (prefix.length === 0) return false
  let end = prefix.length
  while (end > 0 && end > prefix.length - 3 && ((prefix[end - 1] as number) & 0xc0) === 0x80) end -= 1
  const isLead = end > 0 && (prefix[end - 1] as number) >= 0xc0
  return readingOfContent(prefix.subarray(0, isLead ? end - 1 : end), mediaType) === null
}

/** Fields that hold no data of the service's, and those that do not leave. */
const NOT_SEARCHED = new Set([
  'accept-ranges',
  'age',
  'cache-control',
  'connection',
  'content-encoding',
  'content-length',
  'content-type',
  'date',
  'etag',
  'expires',
  'keep-alive',
  'last-modified',
  'server',
  'strict-transport-security',
  'transfer-encoding',
  'vary',
])

/** Adds what the header fields hold that leave with the content (a redirect's target, a file name, a cookie) to its facts. */
export function withHeaderFacts(inspection: Inspection, headers: IncomingHttpHeaders, policy: Policy): Inspection {
  if (policy.wantedFacts.size === 0) return inspection
  const values: string[] = []
  for (const name in headers) {
    const value = headers[name]
    if (value === undefined || NOT_SEARCHED.has(name) || name.startsWith('signet-')) continue
    if (typeof value === 'string') values.push(value)
    else values.push(...value)
  }
  const found = Object.entries(detectInText(values, policy.wantedFacts)) as [FactName, number][]
  if (found.length === 0) return inspection
  const facts = { ...inspection.facts }
  for (const [name, count] of found) {
    const fact = facts[name]
    // What the content holds of it is not known: then the sum is not, either.
    if (inspection.undecidable.includes(`response.facts.${name}`)) continue
    facts[name] = { applicable: true, count: (fact?.count ?? 0) + count }
  }
  return { ...inspection, facts }
}

/** A whole body, its Content-Encoding already removed. */
export function inspectBody(
  content: Buffer,
  contentType: { readonly mediaType: string; readonly charset: string | undefined },
  policy: Policy,
  checkStamp: StampCheck,
): Inspection {
  const { mediaType, charset } = contentType
  if (content.length === 0 && !isJson(mediaType)) return inspectNothing(policy)
  // A client that expects JSON does not look at the media type: what begins like an object is looked at as one.
  const scan = isJson(mediaType) || beginsLikeObject(content) ? scanOrNull(content) : null
  const { payload, upstreamStamp, verified, isUnstrippable } = withoutUpstreamStamp(
    content,
    mediaType,
    scan,
    checkStamp,
  )
  const object = payload === content ? scan : scanOrNull(payload)
  const undecidable: string[] = []

  const found = detectFacts(payload, mediaType, policy.wantedFacts, charset)
  for (const name of found.undecidable) undecidable.push(`response.facts.${name}`)

  let body: Buffer | undefined
  if (policy.readsBody) {
    if (isJson(mediaType) && object !== null && isStrict(payload)) body = payload
    else undecidable.push('response.body')
  }
  return {
    payload,
    object:
      isJson(mediaType) && object?.kind === 'object'
        ? { closeBrace: object.closeBrace, isEmpty: object.isEmpty }
        : null,
    upstreamStamp,
    verified,
    isUnstrippable,
    facts: found.facts,
    body,
    undecidable,
  }
}

function absentFacts(wanted: ReadonlySet<FactName>): Partial<Record<FactName, Fact>> {
  const facts: Partial<Record<FactName, Fact>> = {}
  for (const name of wanted) facts[name] = { applicable: false, count: 0 }
  return facts
}

function scanOrNull(content: Buffer): StructureScan | null {
  try {
    return scanStructure(content)
  } catch (error) {
    if (error instanceof SignetError) return null
    throw error
  }
}

function isStrict(payload: Buffer): boolean {
  try {
    parseStrict(payload)
    return true
  } catch (error) {
    if (error instanceof SignetError) return false
    throw error
  }
}

function verifyEmbedded(content: Buffer, checkStamp: StampCheck): VerifiedStamp | null {
  try {
    const embedded = extractStamp(content)
    return embedded === null ? null : checkStamp(embedded.stampBytes, embedded.payload)
  } catch (error) {
    if (error instanceof SignetError) return null
    throw error
  }
}

/** What the upstream put in the place of a stamp: verified and replaced, or a forgery, taken out where that is possible. */
function withoutUpstreamStamp(
  content: Buffer,
  mediaType: string,
  scan: StructureScan | null,
  checkStamp: StampCheck,
): Pick<Inspection, 'payload' | 'upstreamStamp' | 'verified' | 'isUnstrippable'> {
  const none = { payload: content, upstreamStamp: 'none', verified: null, isUnstrippable: false } as const
  if (scan === null) {
    if (!mayHoldStamp(content)) return none
    // Broken JSON has no members, but a lenient reader may find a stamp in it all the same; lines of JSON have them each.
    const isForged = isJson(mediaType) || linesHoldStamp(content)
    return isForged ? { ...none, upstreamStamp: 'forged', isUnstrippable: true } : none
  }
  if (scan.complianceMembers === 0) return none
  const verified = verifyEmbedded(content, checkStamp)
  try {
    const payload = stripComplianceMembers(content)
    return { payload, upstreamStamp: verified === null ? 'forged' : 'verified', verified, isUnstrippable: false }
  } catch (error) {
    if (!(error instanceof SignetError)) throw error
    return { ...none, upstreamStamp: 'forged', isUnstrippable: true }
  }
}

/** A cheap look: the name as it is, or letters of it escaped. */
function mayHoldStamp(content: Buffer): boolean {
  return content.includes('_compliance') || (content.includes('\\u00') && ESCAPED_NAME.test(content.toString('latin1')))
}
const ESCAPED_NAME = /\\u00(5f|6[13579cdef]|70|74)/i

function linesHoldStamp(content: Buffer): boolean {
  for (let start = 0; start < content.length;) {
    const feed = content.indexOf(LINE_FEED, start)
    const end = feed === -1 ? content.length : feed
    const line = content.subarray(start, end)
    if (beginsLikeObject(line) && (scanOrNull(line)?.complianceMembers ?? 0) > 0) return true
    start = end + 1
  }
  return false
}
const LINE_FEED = 0x0a

function beginsLikeObject(content: Buffer): boolean {
  for (const byte of content) {
    if (byte === 0x20 || byte === 0x09 || byte === 0x0a || byte === 0x0d) continue
    return byte === 0x7b
  }
  return false
}
