import http from 'node:http'
import https from 'node:https'
import type { Duplex } from 'node:stream'
import tls from 'node:tls'

export type WireAnswer = {
  readonly status: number
  readonly headers: http.IncomingHttpHeaders
  readonly trailers: NodeJS.Dict<string>
  readonly body: Buffer
  readonly text: string
  /** The body as what the caller knows it to be. */
  // oxlint-disable-next-line typescript/no-unnecessary-type-parameters -- shorter than a cast at each of its many callers
  json<T = unknown>(): T
}
export type WireRequest = {
  readonly method?: string
  readonly headers?: Readonly<Record<string, string>>
  readonly body?: string | Buffer | undefined
  readonly timeoutMs?: number
}
/** Plain HTTP calls with nothing between the test and the wire; connections are kept and closed with `close`. */
export type Wire = {
  readonly send: (url: string, request?: WireRequest) => Promise<WireAnswer>
  readonly close: () => void
}

export type Connect = (host: string, port: number) => Promise<Duplex>

/** `connect`: how to reach an address, where that is not by the network of this process. `ca`: whom to trust for https. */
export function createWire({ connect, ca }: { connect?: Connect; ca?: string } = {}): Wire {
  const settings = { keepAlive: true, maxSockets: 32 }
  const plain = new http.Agent(settings)
  const secure = new https.Agent({ ...settings, ...(ca === undefined ? {} : { ca }) })
  if (connect !== undefined) {
    connectBy(plain, connect, (socket) => socket)
    connectBy(secure, connect, (socket, host) => tls.connect({ socket, host, ca }))
  }
  return {
    send: (url, { method = 'GET', headers = {}, body, timeoutMs = 60_000 } = {}) =>
      new Promise((resolve, reject) => {
        const { protocol } = new URL(url)
        const length = body === undefined ? {} : { 'content-length': String(Buffer.byteLength(body)) }
        const request = (protocol === 'https:' ? https : http).request(
          url,
          {
            agent: protocol === 'https:' ? secure : plain,
            method,
            timeout: timeoutMs,
            headers: { ...length, ...headers },
          },
          (response) => {
            const chunks: Buffer[] = []
            response.on('data', (chunk: Buffer) => chunks.push(chunk))
            response.once('error', reject)
            response.once('end', () => resolve(answerOf(response, Buffer.concat(chunks))))
          },
        )
        request.once('timeout', () => request.destroy(new Error(`${method} ${url}: no answer within ${timeoutMs} ms`)))
        request.once('error', reject)
        request.end(body)
      }),
    close() {
      plain.destroy()
      secure.destroy()
    },
  }
}

type CreateConnection = (
  options: { host?: string; port?: number | string },
  callback: (error: Error | null, socket?: Duplex) => void,
) => undefined

function connectBy(agent: http.Agent, connect: Connect, wrap: (socket: Duplex, host: string) => Duplex): void {
  const createConnection: CreateConnection = ({ host = '', port = 0 }, callback) => {
    void (async () => {
      try {
        callback(null, wrap(await connect(host, Number(port)), host))
      } catch (error) {
        callback(error as Error)
      }
    })()
  }
  Object.assign(agent, { createConnection })
}

function answerOf(response: http.IncomingMessage, body: Buffer): WireAnswer {
  const { headers, trailers } = response
  const text = body.toString()
  const json = (): never => JSON.parse(text) as never
  return { status: response.statusCode ?? 0, headers, trailers, body, text, json }
}
