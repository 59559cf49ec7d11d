import type { IncomingMessage } from 'node:http'
import { digestText } from '#core/crypto/digest.ts'
import type { RuleMode } from '#core/policy/manifest.ts'
import type { Channel } from '#core/stamp/schema.ts'
import type { Accepted } from '../coding/accept.ts'
import type { Caller } from '../http/caller.ts'
import type { TagMark } from '../http/etag.ts'
import type { Policy } from '../policy/policy.ts'

/** What is known of a request before its answer; fixed for the whole exchange. */
export type ExchangeContext = {
  readonly requestId: string
  readonly traceId: string
  readonly spanId: string
  readonly channel: Channel
  readonly tenant: string
  readonly producerId: string
  readonly mode: RuleMode
  readonly policy: Policy
  /** Marks entity tags of this answer; see `tagMark`. */
  readonly tagMark: TagMark
  readonly method: string
  /** Request target as received, origin form. */
  readonly target: string
  readonly targetDigest: string
  readonly path: string
  readonly headers: IncomingMessage['headers']
  /** Content codings that the client takes. */
  readonly accepted: Accepted
  readonly caller: Caller
  readonly httpVersion: string
  /** Monotonic milliseconds. */
  readonly startedAt: number
}

/** GET, HEAD, OPTIONS and TRACE ask for no effect (RFC 9110 §9.2.1). */
export function isSafe(method: string): boolean {
  return method === 'GET' || method === 'HEAD' || method === 'OPTIONS' || method === 'TRACE'
}

/**
 * Request target in origin form: an absolute form (`GET http://host/path`) loses scheme and authority, since a stamp binds path
 * and query only. `*` (OPTIONS) stays.
 */
export function originForm(url: string): string {
  if (url.startsWith('/')) return url
  const match = /^[a-z][a-z0-9+.-]*:\/\/[^/?#]*(.*)$/i.exec(url)
  if (match === null) return url
  const rest = match[1] as string
  return rest.startsWith('/') ? rest : `/${rest}`
}

export function pathOf(target: string): string {
  const query = target.indexOf('?')
  return query === -1 ? target : target.slice(0, query)
}

/** SHA-256 of the target's bytes; Node hands the request target over as Latin-1. */
export function digestTarget(target: string): string {
  return digestText(Buffer.from(target, 'latin1'))
}
