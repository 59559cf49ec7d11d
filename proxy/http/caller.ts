import { BlockList, isIP } from 'node:net'
import type { IncomingMessage } from 'node:http'
import { SignetError } from '#core/error/signet-error.ts'

export type Caller = { readonly subject: string; readonly roles: readonly string[]; readonly region: string | null }

export const ANONYMOUS: Caller = Object.freeze({ subject: 'anonymous', roles: [], region: null })

/** Reads `10.0.0.0/8, ::1` into a list of peers. Throws CONFIG_INVALID naming the entry. */
export function parsePeers(text: string): BlockList | null {
  const list = new BlockList()
  let any = false
  for (const entry of text.split(',').map((item) => item.trim())) {
    if (entry === '') continue
    const [address = '', prefix] = entry.split('/')
    const family = isIP(address)
    const bits = prefix === undefined ? (family === 6 ? 128 : 32) : Number(prefix)
    if (family === 0 || !Number.isInteger(bits) || bits < 0 || bits > (family === 6 ? 128 : 32)) {
      throw new SignetError('CONFIG_INVALID', `SIGNET_TRUSTED_INGRESS: «${entry}» is not an IP address or CIDR block`)
    }
    list.addSubnet(address, bits, family === 6 ? 'ipv6' : 'ipv4')
    any = true
  }
  return any ? list : null
}

const VALUE = /^[\x21-\x7e][\x20-\x7e]{0,255}$/

/**
 * Who asks, from `Signet-Caller-Subject`, `-Roles` and `-Region`: believed only from a trusted ingress, by its address; from
 * anybody else they count for nothing, and they never reach the upstream.
 */
export function callerOf(request: IncomingMessage, trusted: BlockList | null): Caller {
  if (trusted === null) return ANONYMOUS
  const address = request.socket.remoteAddress ?? ''
  const family = isIP(address)
  if (family === 0 || !trusted.check(address, family === 6 ? 'ipv6' : 'ipv4')) return ANONYMOUS
  const value = (name: string): string | null => {
    const text = request.headers[name]
    return typeof text === 'string' && VALUE.test(text) ? text : null
  }
  return {
    subject: value('signet-caller-subject') ?? 'anonymous',
    roles: (value('signet-caller-roles') ?? '')
      .split(',')
      .map((role) => role.trim())
      .filter((role) => role !== '')
      .slice(0, 64),
    region: value('signet-caller-region'),
  }
}
