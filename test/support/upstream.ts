import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import net, { type AddressInfo, type Socket } from 'node:net'

export type SeenRequest = {
  method: string
  url: string
  headers: IncomingMessage['headers']
  rawHeaders: string[]
  body: Buffer
}

/** A service behind the proxy, told by each test how to answer; remembers what it was asked. */
export type Upstream = {
  readonly url: string
  readonly seen: SeenRequest[]
  answer: (request: SeenRequest, response: ServerResponse) => void
  close(): Promise<void>
}

export async function startUpstream(): Promise<Upstream> {
  const seen: SeenRequest[] = []
  const server = createServer((request, response) => {
    const chunks: Buffer[] = []
    request.on('data', (chunk: Buffer) => chunks.push(chunk))
    request.on('end', () => {
      const it = {
        method: request.method ?? '',
        url: request.url ?? '',
        headers: request.headers,
        rawHeaders: request.rawHeaders,
        body: Buffer.concat(chunks),
      }
      seen.push(it)
      upstream.answer(it, response)
    })
  })
  const upstream: Upstream = {
    url: await listening(server),
    seen,
    answer: (_request, response) => response.end(),
    close: () => closing(server),
  }
  return upstream
}

/** An upstream that says exactly these bytes to every request: what no HTTP library would send. */
export async function startRawUpstream(
  onRequest: (socket: Socket, head: string) => void,
): Promise<{ url: string; close(): Promise<void> }> {
  const sockets = new Set<Socket>()
  const server = net.createServer((socket) => {
    sockets.add(socket)
    socket.on('close', () => sockets.delete(socket))
    socket.on('error', () => {})
    let text = ''
    socket.on('data', (chunk) => {
      text += chunk.toString('latin1')
      const end = text.indexOf('\r\n\r\n')
      if (end === -1) return
      const head = text.slice(0, end)
      text = text.slice(end + 4)
      onRequest(socket, head)
    })
  })
  return {
    url: await listening(server),
    close: () => {
      for (const socket of sockets) socket.destroy()
      return closing(server)
    },
  }
}

async function listening(server: net.Server): Promise<string> {
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`
}

function closing(server: net.Server): Promise<void> {
  if ('closeAllConnections' in server) (server as Server).closeAllConnections()
  return new Promise((resolve) => server.close(() => resolve()))
}
