import type { IncomingMessage, Server, ServerResponse } from 'node:http'
import type { Socket } from 'node:net'

/**
 * Of connections that we have nothing to do for (no request, or one whose body has not come yet), at most so many stay: the one goes that has been so for the
 * longest time. So whoever opens connections and says nothing, before TLS, after it or within a request, keeps nobody else out; a client that finds its
 * kept connection closed makes another.
 */
export function boundIdleConnections(server: Server, maxIdle: number): void {
  /** By the peer's address and port, which a TCP socket and the TLS on it share. Oldest first. */
  const idle = new Map<string, Socket>()
  const add = (socket: Socket): void => {
    const peer = peerOf(socket)
    idle.delete(peer)
    idle.set(peer, socket)
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
  server.on('request', (request: IncomingMessage, response: ServerResponse) => {
    const { socket } = request
    add(socket)
    request.once('end', () => idle.delete(peerOf(socket)))
    response.once('close', () => {
      if (!socket.destroyed) add(socket)
    })
  })
}

function peerOf({ remoteAddress, remotePort }: Socket): string {
  return `${remoteAddress} ${remotePort}`
}
