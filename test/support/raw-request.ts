import net from 'node:net'

export type RawAnswer = {
  text: string
  statusLine: string
  status: number
  headers: Record<string, string[]>
  body: Buffer
  closed: 'end' | 'reset' | 'timeout'
}

/** Sends exactly these bytes and reads until the peer closes, the answer is complete by its own framing, or `timeoutMs`. */
export function rawRequest(url: string, request: string | Buffer, timeoutMs = 5_000): Promise<RawAnswer> {
  const { hostname, port } = new URL(url)
  return new Promise((resolve) => {
    const socket = net.connect(Number(port), hostname)
    const chunks: Buffer[] = []
    let ended = false
    const finish = (closed: RawAnswer['closed']): void => {
      if (ended) return
      ended = true
      clearTimeout(timer)
      socket.destroy()
      resolve(parse(Buffer.concat(chunks), closed))
    }
    const timer = setTimeout(() => finish('timeout'), timeoutMs)
    socket.on('data', (chunk) => chunks.push(chunk))
    socket.on('end', () => finish('end'))
    socket.on('error', () => finish('reset'))
    socket.on('close', (hadError) => finish(hadError ? 'reset' : 'end'))
    socket.write(request)
  })
}

function parse(bytes: Buffer, closed: RawAnswer['closed']): RawAnswer {
  const text = bytes.toString('latin1')
  const end = text.indexOf('\r\n\r\n')
  const head = (end === -1 ? text : text.slice(0, end)).split('\r\n')
  const headers: Record<string, string[]> = {}
  for (const line of head.slice(1)) {
    const colon = line.indexOf(':')
    ;(headers[line.slice(0, colon).toLowerCase()] ??= []).push(line.slice(colon + 1).trim())
  }
  const statusLine = head[0] ?? ''
  return {
    text,
    statusLine,
    status: Number(statusLine.split(' ')[1] ?? 0),
    headers,
    body: end === -1 ? Buffer.alloc(0) : bytes.subarray(end + 4),
    closed,
  }
}
