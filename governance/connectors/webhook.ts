import { lookup as lookUp } from 'node:dns'
import { isIP, type BlockList, type LookupFunction } from 'node:net'
import { Agent, request } from 'undici'
import { isPublicAddress } from './public-address.ts'
import { signedHeaders } from './webhook-signature.ts'

export type Resolved = { readonly address: string; readonly family: number }

export type Resolve = (
  host: string,
  done: (error: NodeJS.ErrnoException | null, found?: readonly Resolved[]) => void,
) => void

export type WebhookDeps = {
  readonly nowMs: () => number
  /** For one try, from connecting to the answer. */
  readonly timeoutMs: number
  /** Networks that are reachable although they are not public; over plain HTTP as well. */
  readonly allowed: BlockList
  /** All addresses of a name. DNS where left out. */
  readonly resolve?: Resolve
}

/** `id`: the same for every try. `body`: JSON. */
export type Delivery = { readonly url: string; readonly key: Buffer; readonly id: string; readonly body: string }

/** `retry`: later (`webhook-retry.ts`); `dead`: never, as it cannot or must not be sent. `reason` has no secret and nothing of the answer. */
export type Delivered =
  | { readonly outcome: 'delivered'; readonly status: number }
  | { readonly outcome: 'retry' | 'dead'; readonly reason: string }

export type WebhookSender = { send(delivery: Delivery): Promise<Delivered>; close(): Promise<void> }

const MAX_ANSWER_BYTES = 16 * 1024
const CONNECTIONS_PER_HOST = 4

class ForbiddenAddress extends Error {}

/**
 * Sends signed messages (Standard Webhooks). The address that is connected to is the one that was checked, so that a name which
 * resolves to another address a moment later gains nothing; redirects are not followed. `send` never throws.
 */
export function createWebhookSender({
  nowMs,
  timeoutMs,
  allowed,
  resolve = (host, done) => lookUp(host, { all: true }, done),
}: WebhookDeps): WebhookSender {
  const isAllowed = (address: string): boolean => {
    const family = isIP(address)
    return family !== 0 && allowed.check(address, family === 4 ? 'ipv4' : 'ipv6')
  }
  const lookup: LookupFunction = (host, options, done) =>
    resolve(host, (error, found = []) => {
      if (error !== null) {
        done(error, '', 4)
        return
      }
      const [first] = found
      // One address inside is enough to refuse: which one would be taken is not ours to say.
      if (first === undefined || !found.every(({ address }) => isPublicAddress(address) || isAllowed(address)))
        done(new ForbiddenAddress('the name resolves to an address that is not public'), '', 4)
      else if (options.all === true) done(null, [...found])
      else done(null, first.address, first.family)
    })
  const agent = new Agent({ connections: CONNECTIONS_PER_HOST, connect: { lookup, timeout: timeoutMs } })

  return {
    async send({ url, key, id, body }) {
      const refusal = refusalOf(url, isAllowed)
      if (refusal !== null) return { outcome: 'dead', reason: refusal }
      const signal = AbortSignal.timeout(timeoutMs)
      try {
        const seconds = Math.floor(nowMs() / 1_000)
        const answer = await request(url, {
          dispatcher: agent,
          method: 'POST',
          headers: { ...signedHeaders(key, { id, seconds, body }), 'content-type': 'application/json' },
          body,
          signal,
        })
        // The status says it; a body that is long or never ends changes nothing.
        await answer.body.dump({ limit: MAX_ANSWER_BYTES, signal }).catch(() => {})
        return decide(answer.statusCode)
      } catch (error) {
        if (isForbidden(error)) return { outcome: 'dead', reason: 'the name resolves to an address that is not public' }
        return {
          outcome: 'retry',
          reason: signal.aborted ? 'no answer in time' : 'cannot be reached, or not spoken to',
        }
      }
    },
    close: () => agent.destroy(),
  }
}

/** Why nothing is sent to a URL, whatever its name resolves to; null where that decides. */
function refusalOf(text: string, isAllowed: (address: string) => boolean): string | null {
  if (!URL.canParse(text)) return 'the URL is none'
  const { protocol, hostname, username, password } = new URL(text)
  const host = hostname.replace(/^\[|\]$/g, '')
  const isInside = isAllowed(host)
  if (protocol !== 'https:' && !(protocol === 'http:' && isInside)) return 'the URL is not https'
  if (username !== '' || password !== '') return 'the URL has a user or a password in it'
  // Addresses are connected to without a look-up.
  if (isIP(host) !== 0 && !isInside && !isPublicAddress(host)) return 'the URL has an address that is not public'
  return null
}

function decide(status: number): Delivered {
  if (status >= 200 && status < 300) return { outcome: 'delivered', status }
  // The receiver wants no more (Standard Webhooks).
  if (status === 410) return { outcome: 'dead', reason: 'it answered 410: gone' }
  return { outcome: 'retry', reason: `it answered ${status}` }
}

function isForbidden(error: unknown): boolean {
  if (error instanceof ForbiddenAddress) return true
  if (error instanceof AggregateError) return error.errors.some(isForbidden)
  return error instanceof Error && error.cause !== undefined && isForbidden(error.cause)
}
