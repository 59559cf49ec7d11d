import { setTimeout as sleep } from 'node:timers/promises'
import { ERROR_CODES } from '#core/error/codes.ts'
import { SignetError } from '#core/error/signet-error.ts'
import { digestText } from '#core/crypto/digest.ts'
import { findStamps } from '#core/stamp/content.ts'
import { parseStampHeader } from '#core/stamp/header.ts'
import { stampLink } from '#core/stamp/pointer.ts'
import { mediaTypeOf, targetDigest } from '#core/stamp/subject.ts'
import { UsageError } from '../usage.ts'
import { isMissing, type Evidence } from './evidence.ts'

const REQUEST_TIMEOUT_MS = 120_000
const MAX_BODY_BYTES = 1024 * 1024 * 1024
/** The stamp of a streamed answer is made when it ends, so it may be a moment late. */
const PENDING_TRIES = 20
const PENDING_WAIT_MS = 150

export type UrlRequest = { readonly url: URL; readonly method: string; readonly headers: ReadonlyMap<string, string> }

/**
 * Fetches an answer and its stamp: inside a JSON object, in the `Compliance-Stamp` header, or where the header's hash or the `Link`
 * points. Redirects are not followed: an answer is verified as the one that was asked for. Target, method, status and media type are
 * expected to be the ones of this exchange.
 * @throws UsageError when nothing could be fetched; SignetError STAMP_MISSING, STAMP_INVALID, JSON_INVALID
 */
export async function evidenceOfUrl(request: UrlRequest): Promise<Evidence> {
  if (request.method === 'HEAD')
    throw new UsageError('a HEAD answer has no content to check against its stamp; use GET')
  const response = await send(request.url, request.method, request.headers)
  const body = await readBody(response, request.url)
  const expected = {
    target_digest: targetDigest(request.url.pathname + request.url.search),
    method: request.method,
    status: response.status,
    // A script that is stamped as text/plain must not come as text/html. Two values are joined, and no media type that is stamped.
    media_type: mediaTypeOf(response.headers.get('content-type') ?? undefined),
  }
  const header = response.headers.get('compliance-stamp') ?? undefined
  try {
    const found = findStamps(body, { header })
    const inHeader = header !== undefined && parseStampHeader(header).stampBytes !== undefined
    return { ...found, place: inHeader ? 'in the Compliance-Stamp header' : 'in the content', expected }
  } catch (error) {
    if (!isMissing(error)) throw error
    const link = stampLink(response.headers.get('link'), request.url)
    if (link === null) {
      throw error.code === 'STAMP_MISSING' ? new SignetError('STAMP_MISSING', missing(response, body)) : error
    }
    const sidecar = await fetchStamp(link, request)
    if (header !== undefined) requireHash(sidecar, parseStampHeader(header).hash, link)
    return { ...findStamps(body, { sidecar }), place: `at ${link.href}`, expected }
  }
}

function requireHash(stampBytes: Uint8Array, stated: string, link: URL): void {
  const found = digestText(stampBytes)
  if (found === stated) return
  throw new SignetError(
    'STAMP_INVALID',
    `the stamp at ${link.href} has the hash ${found}, where the header states ${stated}`,
    {
      details: { stated, found },
    },
  )
}

async function send(url: URL, method: string, headers: ReadonlyMap<string, string>): Promise<Response> {
  try {
    return await fetch(url, {
      method,
      headers: Object.fromEntries(headers),
      redirect: 'manual',
      signal: AbortSignal.timeout(REQUEST_TIMEOUT_MS),
    })
  } catch (error) {
    throw unreachable(url, error)
  }
}

async function readBody(response: Response, url: URL): Promise<Buffer> {
  const chunks: Uint8Array[] = []
  let length = 0
  try {
    for await (const chunk of response.body ?? []) {
      const bytes = chunk as Uint8Array
      length += bytes.byteLength
      if (length > MAX_BODY_BYTES) throw new UsageError(`${url.href} answers with more than ${MAX_BODY_BYTES} bytes`)
      chunks.push(bytes)
    }
  } catch (error) {
    throw error instanceof UsageError ? error : unreachable(url, error)
  }
  return Buffer.concat(chunks)
}

async function fetchStamp(link: URL, request: UrlRequest): Promise<Buffer> {
  // Credentials stay with the origin that they were given for.
  const headers = link.origin === request.url.origin ? request.headers : new Map<string, string>()
  for (let attempt = 1; ; attempt += 1) {
    const response = await send(link, 'GET', headers)
    const bytes = await readBody(response, link)
    if (response.status === 200) return bytes
    if (response.status !== 404 || !link.pathname.includes('/requests/') || attempt >= PENDING_TRIES) {
      throw new SignetError(
        'STAMP_MISSING',
        `the answer points to its stamp at ${link.href}, which answers ${response.status}`,
      )
    }
    await sleep(PENDING_WAIT_MS)
  }
}

function missing(response: Response, body: Buffer): string {
  const answered = `the answer (status ${response.status}) has no stamp`
  if (response.headers.get('content-type')?.startsWith('application/problem+json') !== true) return answered
  try {
    const { code, detail } = JSON.parse(body.toString()) as { code?: unknown; detail?: unknown }
    if (typeof code !== 'string' || !Object.hasOwn(ERROR_CODES, code)) return answered
    return `${answered}: it is Signet's own, ${code}${typeof detail === 'string' ? ` (${detail.slice(0, 300)})` : ''}`
  } catch {
    return answered
  }
}

function unreachable(url: URL, error: unknown): UsageError {
  const cause = error instanceof Error && error.cause instanceof Error ? error.cause : error
  const { code, message } = cause as NodeJS.ErrnoException
  return new UsageError(
    `cannot read ${url.href}: ${code === 'ECONNREFUSED' ? 'nothing listens there' : (message ?? String(cause))}`,
  )
}
