import type { AddressInfo, Server } from 'node:net'
import { SignetError } from '#core/error/signet-error.ts'

export type ListenAddress = { readonly host: string; readonly port: number }

/** The pattern and its words, for configuration schemas (`Type.String({...LISTEN_ADDRESS, description})`). */
export const LISTEN_ADDRESS = {
  pattern: '^(\\[[0-9A-Fa-f:.%]+\\]|[^\\s:\\[\\]]+):\\d{1,5}$',
  allowed: 'HOST:PORT, for example 127.0.0.1:8080 or [::1]:8080',
} as const

/** Parses `HOST:PORT` (`127.0.0.1:8080`, `[::1]:8080`, port 0 for any). @throws SignetError CONFIG_INVALID naming `variable` */
export function parseListenAddress(variable: string, value: string): ListenAddress {
  const colon = value.lastIndexOf(':')
  const host = value.slice(0, colon).replace(/^\[(.*)\]$/, '$1')
  const port = Number(value.slice(colon + 1))
  if (!new RegExp(LISTEN_ADDRESS.pattern).test(value) || port > 65_535) {
    throw new SignetError(
      'CONFIG_INVALID',
      `${variable} is ${JSON.stringify(value.slice(0, 100))}; it must be ${LISTEN_ADDRESS.allowed}, with a port from 0 to 65535`,
    )
  }
  return { host, port }
}

/**
 * Listens and resolves to the address really taken. `what` and `variable` name the listener in the one line that is shown when
 * it cannot be taken: `port 8080 (proxy, external channel) is already in use; …`.
 * @throws SignetError PORT_IN_USE, CONFIG_INVALID (an address that this machine does not have, or may not use)
 */
export async function listen(
  server: Server,
  address: ListenAddress,
  names: { what: string; variable: string },
): Promise<ListenAddress> {
  await new Promise<void>((resolve, reject) => {
    const onError = (error: NodeJS.ErrnoException): void => reject(listenError(error, address, names))
    server.once('error', onError)
    server.listen({ host: address.host, port: address.port }, () => {
      server.removeListener('error', onError)
      resolve()
    })
  })
  const taken = server.address() as AddressInfo
  return { host: address.host, port: taken.port }
}

/** The plain words for a failed listen; also for those who listen in their own way. */
export function listenError(
  error: NodeJS.ErrnoException,
  address: ListenAddress,
  names: { what: string; variable: string },
): SignetError {
  if (error.code === 'EADDRINUSE') {
    return new SignetError(
      'PORT_IN_USE',
      `port ${address.port} (${names.what}) is already in use; stop what listens there or set ${names.variable}`,
      { cause: error },
    )
  }
  const reason =
    error.code === 'EACCES'
      ? 'this user may not listen there'
      : error.code === 'EADDRNOTAVAIL' || error.code === 'ENOTFOUND'
        ? 'this machine has no such address'
        : error.message
  return new SignetError(
    'CONFIG_INVALID',
    `cannot listen on ${address.host}:${address.port} (${names.what}): ${reason}; set ${names.variable}`,
    { cause: error },
  )
}
