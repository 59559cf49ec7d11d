import { setTimeout as sleep } from 'node:timers/promises'
import { digestText } from '#core/crypto/digest.ts'
import { ERROR_CODES } from '#core/error/codes.ts'
import { SignetError } from '#core/error/signet-error.ts'
import { parseStampHeader } from '#core/stamp/header.ts'
import { stampLink } from '#core/stamp/pointer.ts'
import type { Channel } from '#core/stamp/schema.ts'
import { mediaTypeOf } from '#core/stamp/subject.ts'
import type { StampAuthority } from './authority.ts'
import { verifyStamp, type StampedContent, type VerifiedContent } from './verify-stamp.ts'

export type VerifyOptions = {
  readonly authority: StampAuthority
  /** What the stamps of the service have to say. The rest of the subject is that of each exchange. */
  readonly tenant: string
  readonly channel: Channel
  /** Any producer of the tenant where it is left out. */
  readonly producerId?: string
  /** Largest content that is held until it is verified, decoded. Default 8 MiB. */
  readonly maxBytes?: number
  /** For fetching a stamp that the answer points to and for asking the authority, in milliseconds. Default 5,000. */
  readonly timeoutMs?: number
}
export const DEFAULT_MAX_BYTES = 8 * 1024 * 1024
export const DEFAULT_TIMEOUT_MS = 5_000

/** An answer that has been read whole, with Content-Encoding taken off. */
export type HeldAnswer = {
  readonly origin: URL
  readonly method: string
  /** Path and query as sent. */
  readonly target: string
  readonly status: number
  /** Values of one name joined by a comma. */
  readonly header: (name: string) => string | undefined
  /** `Compliance-Stamp` of the trailer section. */
  readonly stampTrailer?: string | undefined
  readonly content: Uint8Array
}

/** Gets a stamp from the origin of the answer. */
export type FetchStamp = (link: URL, signal: AbortSignal) => Promise<{ status: number; content: Uint8Array }>

/** The stamp of a streamed answer is made when it ends, so it may be a moment late. */
const PENDING_TRIES = 20
const PENDING_WAIT_MS = 150

/**
 * Verifies an answer before anybody has seen it. A stamp that it only points to is fetched, from its own origin and from nowhere else.
 * @throws SignetError as `verifyStamp`
 */
export async function verifyAnswer(
  answer: HeldAnswer,
  options: VerifyOptions,
  fetchStamp: FetchStamp,
  signal: AbortSignal,
): Promise<VerifiedContent> {
  const { tenant, channel, producerId, authority } = options
  const expectation = {
    tenant,
    channel,
    producerId,
    method: answer.method,
    target: answer.target,
    status: answer.status,
    // A script that is stamped as text/plain must not come as text/html.
    mediaType: mediaTypeOf(answer.header('content-type')),
  }
  const verify = (stamped: StampedContent): Promise<VerifiedContent> =>
    verifyStamp(stamped, expectation, authority, signal)
  const header = stampHeader(answer)
  try {
    return await verify({ content: answer.content, header })
  } catch (error) {
    if (!isMissing(error)) throw error
    const link = stampLink(answer.header('link') ?? null, answer.origin)
    if (link === null || link.origin !== answer.origin.origin) {
      if (error.code !== 'STAMP_MISSING') throw error
      throw unstamped(answer)
    }
    const sidecar = await fetchPointed(link, fetchStamp, signal)
    requireHash(sidecar, header)
    return verify({ content: answer.content, sidecar })
  }
}

function stampHeader({ header, stampTrailer }: HeldAnswer): string | undefined {
  const inHead = header('compliance-stamp')
  if (inHead !== undefined && stampTrailer !== undefined && inHead !== stampTrailer)
    throw new SignetError('STAMP_INVALID', 'the answer has one stamp in its header and another in its trailer')
  return inHead ?? stampTrailer
}

async function fetchPointed(link: URL, fetchStamp: FetchStamp, signal: AbortSignal): Promise<Uint8Array> {
  for (let attempt = 1; ; attempt += 1) {
    const { status, content } = await fetchStamp(link, signal)
    if (status === 200) return content
    if (status !== 404 || !link.pathname.includes('/requests/') || attempt >= PENDING_TRIES)
      throw new SignetError(
        'STAMP_MISSING',
        `the answer points to its stamp at ${link.pathname}, which answers ${status}`,
      )
    await sleep(PENDING_WAIT_MS, undefined, { signal })
  }
}

function requireHash(stampBytes: Uint8Array, header: string | undefined): void {
  if (header === undefined) return
  const stated = parseStampHeader(header).hash
  const found = digestText(stampBytes)
  if (found === stated) return
  throw new SignetError(
    'STAMP_INVALID',
    'the stamp that the answer points to has another hash than its header states',
    {
      details: { stated, found },
    },
  )
}

function isMissing(error: unknown): error is SignetError {
  return error instanceof SignetError && (error.code === 'STAMP_MISSING' || error.code === 'JSON_INVALID')
}

/** Signet's own refusals carry no stamp: which one it was helps, and its code is of a closed list. */
function unstamped({ status, header, content }: HeldAnswer): SignetError {
  const code = mediaTypeOf(header('content-type')) === 'application/problem+json' ? problemCode(content) : undefined
  const own = code === undefined ? '' : `: it says that it is Signet's own, ${code}`
  return new SignetError('STAMP_MISSING', `the answer (status ${status}) has no stamp${own}`, {
    details: { status, ...(code === undefined ? {} : { problem_code: code }) },
  })
}

function problemCode(content: Uint8Array): string | undefined {
  try {
    const { code } = JSON.parse(Buffer.from(content).toString()) as { code?: unknown }
    return typeof code === 'string' && Object.hasOwn(ERROR_CODES, code) ? code : undefined
  } catch {
    return undefined
  }
}
