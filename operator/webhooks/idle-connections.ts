import type { IncomingMessage, Server, ServerResponse } from 'node:http'
import type { Socket } from 'node:net'

/**
 * Of connections that are at no request, at most so many stay: the oldest goes. So whoever opens connections and says nothing, before TLS or after
 * it, keeps nobody else out; a client that finds its kept connection closed makes another.
 */
export function boundIdleConnections(server: Server, maxIdle: number): void {
  /** By the peer's address and port, which a TCP socket and the TLS on it share. Oldest first. */
  const idle = new Map<string, Socket>()
  const add = (socket: Socket): void => {
    idle.set(peerOf(socket), socket)
    if (idle.size <= maxIdle) return
    const [key, oldest] = idle.entries().next().value!
    idle.delete(key)
    oldest.destroy()
  }
  server.on('connection', (socket: Socket) => {
    const peer = peerOf(socket)
    add(socket)
    socket.once('close', () => idle.delete(peer))
  })
  server.on('request', ({ socket }: IncomingMessage, response: ServerResponse) => {
    idle.delete(peerOf(socket))
    response.once('close', () => {
      if (!socket.destroyed) add(socket)
    })
  })
}

function peerOf({ remoteAddress, remotePort }: Socket): string {
  return `${remoteAddress} ${remotePort}`
}
