import { once } from 'node:events'
import { connect, createServer, type AddressInfo, type Socket } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'

/**
 * A network between two parties that a test can cut. `pass`: as a wire. `blackhole`: connections are accepted and stay, nothing goes
 * through, in neither direction, as where a firewall drops packets; what was held back goes on when it passes again. `slow`: every piece
 * waits `SLOW_MS`. `refuse`: connections are reset as they come. `reset()` breaks those that are.
 */
export type RelayMode = 'pass' | 'blackhole' | 'slow' | 'refuse'

export type TcpRelay = {
  readonly port: number
  mode: RelayMode
  /** Where new connections go from now on. */
  target: { readonly host: string; readonly port: number }
  /** The same connection string through this relay. */
  through(url: string): string
  /** Resets every connection; gives how many. */
  reset(): number
  close(): Promise<void>
}

const SLOW_MS = 40
const POLL_MS = 20

export async function startTcpRelay(url: string): Promise<TcpRelay> {
  const { hostname, port } = new URL(url)
  const sockets = new Set<Socket>()
  const server = createServer({ allowHalfOpen: true }, (near) => {
    if (relay.mode === 'refuse') {
      near.on('error', () => undefined)
      near.resetAndDestroy()
      return
    }
    const far = connect({ ...relay.target, allowHalfOpen: true })
    for (const socket of [near, far]) {
      sockets.add(socket)
      socket.on('close', () => sockets.delete(socket))
      socket.setNoDelay(true)
    }
    void carry(near, far)
    void carry(far, near)
  })

  /** One direction. Backpressure holds: a piece is awaited before the next is read. */
  async function carry(from: Socket, to: Socket): Promise<void> {
    from.on('error', () => to.resetAndDestroy())
    try {
      for await (const piece of from as AsyncIterable<Buffer>) {
        if (relay.mode === 'slow') await sleep(SLOW_MS)
        while (relay.mode === 'blackhole') await sleep(POLL_MS)
        if (to.destroyed) break
        if (!to.write(piece)) await Promise.race([once(to, 'drain'), once(to, 'close')])
      }
      // A closed end is a packet too: it does not get through either.
      while (relay.mode === 'blackhole') await sleep(POLL_MS)
      to.end()
    } catch {
      to.resetAndDestroy()
    }
  }

  const relay: TcpRelay = {
    port: 0,
    mode: 'pass',
    target: { host: hostname, port: Number(port) },
    through(of) {
      const changed = new URL(of)
      changed.hostname = '127.0.0.1'
      changed.port = String(relay.port)
      return changed.toString()
    },
    reset() {
      const broken = sockets.size
      for (const socket of sockets) socket.resetAndDestroy()
      return broken
    },
    async close() {
      relay.mode = 'pass'
      relay.reset()
      server.close()
      await once(server, 'close')
    },
  }
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  return Object.assign(relay, { port: (server.address() as AddressInfo).port })
}
