import net from 'node:net'
import { once } from 'node:events'

/** A connection to an address inside the node's network namespace, through the process that waits there at `socketPath`. */
export async function connectThrough(socketPath: string, host: string, port: number): Promise<net.Socket> {
  const socket = net.connect(socketPath)
  try {
    await once(socket, 'connect')
    socket.write(`${host} ${port}\n`)
    await once(socket, 'readable')
    const word = socket.read(3) as Buffer | null
    if (word?.toString() !== 'ok\n') throw new Error(`${host}:${port} does not take connections`)
    return socket
  } catch (error) {
    socket.destroy()
    throw error
  }
}
