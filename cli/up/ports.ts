import { createServer } from 'node:net'
import { connect } from 'node:net'
import { listen } from '#runtime/http/listen.ts'
import type { UpConfig } from './config.ts'

export type Ports = {
  readonly external: number
  readonly internal: number
  readonly admin: number
  readonly ledger: number
  readonly governance: number
  readonly demo: number
}

const LISTENERS = {
  external: { what: 'proxy, external channel', variable: 'SIGNET_EXTERNAL_PORT' },
  internal: { what: 'proxy, internal channel', variable: 'SIGNET_INTERNAL_PORT' },
  admin: { what: 'proxy admin', variable: 'SIGNET_ADMIN_PORT' },
  ledger: { what: 'ledger', variable: 'SIGNET_LEDGER_PORT' },
  governance: { what: 'governance', variable: 'SIGNET_GOVERNANCE_PORT' },
  demo: { what: 'demo service', variable: 'SIGNET_DEMO_PORT' },
} as const

/**
 * Takes every port for a moment, all at once, before anything is started: a port in use is one line and leaves nothing half up.
 * @throws SignetError PORT_IN_USE, CONFIG_INVALID
 */
export async function claimPorts(config: UpConfig, names: readonly (keyof Ports)[]): Promise<Ports> {
  const servers: ReturnType<typeof createServer>[] = []
  const ports: Record<keyof Ports, number> = {
    external: 0,
    internal: 0,
    admin: 0,
    ledger: 0,
    governance: 0,
    demo: 0,
  }
  try {
    for (const name of names) {
      const server = createServer()
      servers.push(server)
      const { variable } = LISTENERS[name]
      ports[name] = (await listen(server, { host: config.SIGNET_HOST, port: config[variable] }, LISTENERS[name])).port
    }
  } finally {
    await Promise.all(servers.map((server) => new Promise((resolve) => server.close(resolve))))
  }
  return ports
}

/** Whether something accepts a connection there within two seconds; the service behind it is not asked anything. */
export function isListening(url: URL): Promise<boolean> {
  return new Promise((resolve) => {
    const port = Number(url.port) || (url.protocol === 'https:' ? 443 : 80)
    const socket = connect({ host: url.hostname.replace(/^\[(.*)\]$/, '$1'), port, timeout: 2_000 })
    const settle = (answer: boolean) => (): void => {
      socket.destroy()
      resolve(answer)
    }
    socket.once('connect', settle(true)).once('error', settle(false)).once('timeout', settle(false))
  })
}
