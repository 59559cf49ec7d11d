import type { Server as TlsServer } from 'node:tls'
import type { FastifyInstance } from 'fastify'
import { listen, type ListenAddress } from '#runtime/http/listen.ts'
import type { TlsPair } from '#runtime/tls/reloading.ts'
import type { CertificateSource } from './certificates/source.ts'

export type Listener = {
  readonly app: FastifyInstance
  readonly address: ListenAddress
  /** For people: `webhooks`. */
  readonly what: string
  /** The variable that says where. */
  readonly variable: string
}

/** What TLS listeners are built with: they have no certificate until there is one, and do not listen before. */
export const TLS_OPTIONS = { minVersion: 'TLSv1.2' } as const
/** Listeners get this long to finish what is under way. */
const CLOSE_MS = 5_000

/** Listens, and resolves to the address taken, `HOST:PORT`. @throws SignetError PORT_IN_USE, CONFIG_INVALID */
export async function openListener({ app, address, what, variable }: Listener): Promise<string> {
  await app.ready()
  const taken = await listen(app.server, address, { what: `operator, ${what}`, variable })
  return `${taken.host}:${taken.port}`
}

/**
 * Waits for a certificate, then opens the listeners, in order; every later certificate is taken for new connections. Resolves when they
 * are open (to addresses by variable), or when `signal` aborts before. @throws as `openListener`
 */
export async function openWithCertificate(
  listeners: readonly Listener[],
  certificates: CertificateSource,
  signal: AbortSignal,
  onPair: (pair: TlsPair) => void,
): Promise<Record<string, string>> {
  const first = Promise.withResolvers<void>()
  signal.addEventListener('abort', () => first.resolve(), { once: true })
  certificates.onPair((pair) => {
    for (const { app } of listeners) (app.server as unknown as TlsServer).setSecureContext({ ...pair, ...TLS_OPTIONS })
    onPair(pair)
    first.resolve()
  })
  await first.promise
  const addresses: Record<string, string> = {}
  for (const listener of listeners) {
    if (signal.aborted) break
    addresses[listener.variable] = await openListener(listener)
  }
  return addresses
}

/** Stops taking connections, lets requests under way finish, and cuts what is left. */
export async function closeListener(app: FastifyInstance): Promise<void> {
  const cut = setTimeout(() => app.server.closeAllConnections(), CLOSE_MS)
  app.server.closeIdleConnections()
  await app.close()
  clearTimeout(cut)
}
