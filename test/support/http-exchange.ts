import { request, type IncomingHttpHeaders, type OutgoingHttpHeaders } from 'node:http'

export type HttpAnswer = {
  readonly status: number
  readonly headers: IncomingHttpHeaders
  /** Name and value in turn, as on the wire. */
  readonly rawHeaders: readonly string[]
  readonly body: Buffer
  readonly trailers: NodeJS.Dict<string>
  /** False where the connection broke before the answer's own framing said that it is complete. */
  readonly complete: boolean
}

/** One exchange on a connection of its own, without decoding, redirects or retries: the client sees what was on the wire. Rejects where there is no answer at all. */
export function exchange(
  url: string,
  options: { method?: string; headers?: OutgoingHttpHeaders; body?: string | Buffer } = {},
): Promise<HttpAnswer> {
  return new Promise((resolve, reject) => {
    const sent = request(
      url,
      { method: options.method ?? 'GET', headers: options.headers ?? {}, agent: false },
      (response) => {
        const chunks: Buffer[] = []
        const done = (): void =>
          resolve({
            status: response.statusCode ?? 0,
            headers: response.headers,
            rawHeaders: response.rawHeaders,
            body: Buffer.concat(chunks),
            trailers: response.trailers,
            complete: response.complete,
          })
        response.on('data', (chunk: Buffer) => chunks.push(chunk))
        response.on('error', () => {})
        response.once('close', done)
      },
    )
    sent.once('error', reject)
    sent.end(options.body)
  })
}

/** Names of the headers in order, lower-case. */
export function headerNames(answer: HttpAnswer): string[] {
  return answer.rawHeaders.filter((_, i) => i % 2 === 0).map((name) => name.toLowerCase())
}

export function headerValues(answer: HttpAnswer, name: string): string[] {
  return answer.rawHeaders.filter((_, i) => i % 2 === 1 && answer.rawHeaders[i - 1]?.toLowerCase() === name)
}
