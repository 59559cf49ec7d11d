import { lookup as lookUp } from 'node:dns'
import { isIP, type BlockList, type LookupFunction } from 'node:net'
import { Agent } from 'undici'
import { isPublicAddress } from './public-address.ts'

export type Resolved = { readonly address: string; readonly family: number }

export type Resolve = (
  host: string,
  done: (error: NodeJS.ErrnoException | null, found?: readonly Resolved[]) => void,
) => void

export type GuardOptions = {
  /** Networks that are reachable although they are not public; over plain HTTP as well. */
  readonly allowed: BlockList
  /** For connecting. */
  readonly timeoutMs: number
  /** To one host. */
  readonly connections: number
  /** All addresses of a name. DNS where left out. */
  readonly resolve?: Resolve | undefined
}

class ForbiddenAddress extends Error {}

/**
 * Connections to URLs that people give: to public addresses and those that are allowed, by https. The address that is connected to is the one that
 * was checked, so that a name which resolves to another address a moment later gains nothing.
 */
export function createGuardedAgent({
  allowed,
  timeoutMs,
  connections,
  resolve = (host, done) => lookUp(host, { all: true }, done),
}: GuardOptions): {
  readonly agent: Agent
  /** Why nothing is sent to a URL, whatever its name resolves to; null where that decides. */
  readonly refusalOf: (url: string) => string | null
} {
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
  return {
    agent: new Agent({ connections, connect: { lookup, timeout: timeoutMs } }),
    refusalOf: (url) => refusalOf(url, isAllowed),
  }
}

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

/** Whether an error of a request is that its name resolves to where nobody may connect. */
export function isForbidden(error: unknown): boolean {
  if (error instanceof ForbiddenAddress) return true
  if (error instanceof AggregateError) return error.errors.some(isForbidden)
  return error instanceof Error && error.cause !== undefined && isForbidden(error.cause)
}
