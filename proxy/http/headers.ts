import type { IncomingHttpHeaders } from 'node:http'
import { SignetError } from '#core/error/signet-error.ts'

/** Hop-by-hop fields (RFC 9110 §7.6.1), and what an intermediary answers for itself. */
const HOP_BY_HOP = new Set([
  'connection',
  'keep-alive',
  'proxy-connection',
  'proxy-authenticate',
  'proxy-authorization',
  'te',
  'trailer',
  'transfer-encoding',
  'upgrade',
  'http2-settings',
])

/**
 * Upstream fields that stop being true once we answer: digests and signatures over other bytes or fields (RFC 9530, RFC 9421),
 * a stamp that is not ours, and Alt-Svc, which would lead clients around the proxy.
 */
const UNTRUE_AFTER_STAMPING = new Set([
  'digest',
  'content-digest',
  'repr-digest',
  'content-md5',
  'signature',
  'signature-input',
  'compliance-stamp',
  'alt-svc',
])

/** Ours on the request side: never believed from a client, never passed on as if it came from us. */
const RESERVED_PREFIX = 'signet-'

const RESERVED_PATH = '/.well-known/signet/'

/** What a function of names says, for the names seen so far: they are few, and seen again with every message. */
function rememberedFor<Result>(decide: (name: string) => Result): (name: string) => Result {
  const known = new Map<string, Result>()
  return (name) => {
    const found = known.get(name)
    if (found !== undefined) return found
    const result = decide(name)
    if (known.size < MAX_KNOWN_NAMES && name.length <= MAX_KNOWN_LENGTH) known.set(name, result)
    return result
  }
}
const MAX_KNOWN_NAMES = 512
const MAX_KNOWN_LENGTH = 64

/** Also with underscores: gateways after CGI (RFC 3875 §4.1.18) fold both into one name. */
function isReserved(lower: string): boolean {
  return lower.startsWith(RESERVED_PREFIX) || lower.startsWith('signet_')
}

function connectionOptions(value: string | string[] | undefined): ReadonlySet<string> | null {
  if (value === undefined) return null
  const text = Array.isArray(value) ? value.join(',') : value
  if (text === 'keep-alive' || text === 'close') return null
  const names = text.split(',').map((option) => option.trim().toLowerCase())
  // What the content is, is never hop-by-hop: dropping it would let a client read the body as something else than was judged.
  return new Set(names.filter((name) => !name.startsWith('content-') && name !== 'cache-control' && name !== 'vary'))
}

export type RequestRewrite = {
  readonly requestId: string
  readonly traceparent: string
  /** Under `off` and `shadow` the exchange is left as it is: conditions, ranges and encodings pass. */
  readonly transparent: boolean
  /** Accept-Encoding, where it is not transparent. */
  readonly acceptEncoding: string
  readonly ifNoneMatch: string | null
  readonly ifMatch: string | null
  readonly clientAddress: string
  readonly scheme: 'http' | 'https'
}

const passesUpstream = rememberedFor((name): 'always' | 'transparently' | 'never' => {
  const lower = name.toLowerCase()
  switch (lower) {
    // Node has answered the expectation itself; undici refuses it.
    case 'expect':
    case 'traceparent':
    case 'x-request-id':
    case 'x-forwarded-for':
    case 'x-forwarded-proto':
    // They would have the service answer another method than the one that was judged.
    case 'x-http-method-override':
    case 'x-http-method':
    case 'x-method-override':
      return 'never'
    case 'accept-encoding':
    case 'range':
    case 'if-range':
    case 'if-none-match':
    case 'if-modified-since':
    case 'if-match':
      return 'transparently'
    default:
      return HOP_BY_HOP.has(lower) || isReserved(lower) ? 'never' : 'always'
  }
})

/** The request header list for the upstream, flattened pairs as undici takes them. */
export function upstreamRequestHeaders(
  rawHeaders: readonly string[],
  headers: IncomingHttpHeaders,
  rewrite: RequestRewrite,
): string[] {
  const dropped = connectionOptions(headers.connection)
  const out: string[] = []
  for (let i = 0; i + 1 < rawHeaders.length; i += 2) {
    const name = rawHeaders[i] as string
    const passes = passesUpstream(name)
    if (passes === 'never' || (passes === 'transparently' && !rewrite.transparent)) continue
    if (dropped !== null && passes === 'always' && dropped.has(name.toLowerCase())) continue
    out.push(name, rawHeaders[i + 1] as string)
  }
  if (!rewrite.transparent) {
    out.push('accept-encoding', rewrite.acceptEncoding)
    if (rewrite.ifNoneMatch !== null) out.push('if-none-match', rewrite.ifNoneMatch)
    if (rewrite.ifMatch !== null) out.push('if-match', rewrite.ifMatch)
  }
  const forwarded = headers['x-forwarded-for']
  out.push(
    'x-forwarded-for',
    forwarded === undefined ? rewrite.clientAddress : `${String(forwarded)}, ${rewrite.clientAddress}`,
    'x-forwarded-proto',
    rewrite.scheme,
    'x-request-id',
    rewrite.requestId,
    'traceparent',
    rewrite.traceparent,
  )
  return out
}

const isEndToEnd = rememberedFor((name) => !HOP_BY_HOP.has(name) && !isReserved(name))

/** Response fields that pass whatever the mode: without hop-by-hop fields and without what the application told us alone. */
export function transparentResponseHeaders(upstream: IncomingHttpHeaders): string[] {
  const dropped = connectionOptions(upstream.connection)
  const out: string[] = []
  for (const name in upstream) {
    if (!isEndToEnd(name) || dropped?.has(name) === true) continue
    push(out, name, upstream[name])
  }
  return out
}

/**
 * The fields of an answer with those that may occur once occurring once (RFC 9110 §5.3); undici gives a field that was sent twice as a
 * list. Two media types leave open what a client will read, so that there is nothing to judge; two entity tags name nothing. Throws
 * UPSTREAM_INVALID.
 */
export function singleFields(upstream: IncomingHttpHeaders): IncomingHttpHeaders {
  const {
    'content-type': type,
    'content-encoding': encoding,
    etag,
  } = upstream as Record<string, string | string[] | undefined>
  if (Array.isArray(type)) throw new SignetError('UPSTREAM_INVALID', 'The service stated more than one Content-Type')
  if (!Array.isArray(encoding) && !Array.isArray(etag)) return upstream
  const single = { ...upstream }
  if (Array.isArray(encoding)) single['content-encoding'] = encoding.join(', ')
  if (Array.isArray(etag)) delete single.etag
  return single
}

export type ResponseRewrite = {
  readonly etag: string | null
  /** The body is not what upstream framed (spliced, decoded, or framed by us): drop its length. */
  readonly reframed: boolean
  /** Content-Encoding of what leaves; null for none. */
  readonly contentEncoding: string | null
  /** Another Accept-Encoding would have got it in another coding. */
  readonly codingVaries: boolean
  readonly stampHeader: string | null
  readonly link: string | null
  /** A decision that read caller facts may be reused for that caller only. */
  readonly callerSpecific: boolean
}

const staysTrue = rememberedFor(
  (name) => !HOP_BY_HOP.has(name) && !UNTRUE_AFTER_STAMPING.has(name) && !isReserved(name),
)

/** The response header list of a stamped answer, flattened pairs as `writeHead` takes them. */
export function stampedResponseHeaders(upstream: IncomingHttpHeaders, rewrite: ResponseRewrite): string[] {
  const dropped = connectionOptions(upstream.connection)
  const out: string[] = []
  let vary: string | undefined
  let cacheControl: string | undefined
  let exposed: string | undefined
  for (const name in upstream) {
    switch (name) {
      case 'etag':
        continue
      case 'content-encoding':
        continue
      case 'content-length':
        if (rewrite.reframed) continue
        break
      case 'accept-ranges':
        out.push('accept-ranges', 'none')
        continue
      case 'vary':
        vary = joined(upstream[name])
        continue
      case 'cache-control':
        cacheControl = joined(upstream[name])
        continue
      case 'link':
        // A stamp link is ours to give.
        for (const link of [upstream[name]].flat()) if (!String(link).includes(RESERVED_PATH)) push(out, name, link)
        continue
      case 'access-control-expose-headers':
        exposed = joined(upstream[name])
        continue
      default:
        if (!staysTrue(name) || dropped?.has(name) === true) continue
    }
    push(out, name, upstream[name])
  }
  if (rewrite.etag !== null) out.push('etag', rewrite.etag)
  if (rewrite.contentEncoding !== null) out.push('content-encoding', rewrite.contentEncoding)
  if (rewrite.codingVaries && !(vary !== undefined && VARIES_BY_CODING.test(vary)))
    vary = vary === undefined ? 'Accept-Encoding' : `${vary}, Accept-Encoding`
  if (rewrite.callerSpecific) {
    cacheControl = cacheControl === undefined ? 'private' : withPrivate(cacheControl)
    vary = vary === undefined ? 'Authorization' : `${vary}, Authorization`
  }
  if (cacheControl !== undefined) out.push('cache-control', cacheControl)
  if (vary !== undefined) out.push('vary', vary)
  // A browser shows our headers to scripts only where they are exposed (Fetch §4.10); it matters only where CORS is in use.
  if (exposed !== undefined || upstream['access-control-allow-origin'] !== undefined) {
    const ours = 'Compliance-Stamp, Link'
    out.push(
      'access-control-expose-headers',
      exposed === undefined ? ours : exposed.trim() === '*' ? exposed : `${exposed}, ${ours}`,
    )
  }
  if (rewrite.stampHeader !== null) out.push('compliance-stamp', rewrite.stampHeader)
  if (rewrite.link !== null) out.push('link', rewrite.link)
  return out
}

const VARIES_BY_CODING = /(?:^|[\s,])(?:\*|accept-encoding)(?:$|[\s,])/i

function withPrivate(cacheControl: string): string {
  const kept = cacheControl
    .split(',')
    .map((directive) => directive.trim())
    .filter((directive) => directive !== '' && !/^(public|private|s-maxage=.*)$/i.test(directive))
  return ['private', ...kept].join(', ')
}

function joined(value: string | string[] | undefined): string | undefined {
  return Array.isArray(value) ? value.join(', ') : value
}

function push(out: string[], name: string, value: string | string[] | undefined): void {
  if (value === undefined) return
  if (typeof value === 'string') {
    out.push(name, value)
  } else {
    for (const item of value) out.push(name, item)
  }
}

/** Whether a Cache-Control value forbids rewriting the body (`no-transform`, RFC 9111 §5.2.2.6). */
export function forbidsTransform(cacheControl: string | string[] | undefined): boolean {
  return cacheControl !== undefined && /(^|[\s,])no-transform($|[\s,])/i.test(String(cacheControl))
}
