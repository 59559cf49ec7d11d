import type { ServerResponse } from 'node:http'

/** Makes a `Sealed`; handed to `validator.ts` alone, by `claimSeal`. */
export type Seal = (answer: {
  status: number
  /** Flattened pairs. */
  headers: string[]
  /** The whole body; null where the answer has none or streams it. */
  body: Buffer | null
  streamed: boolean
}) => Sealed

let makeSealed: Seal

/**
 * An answer that may leave. There is no other way to the client: `writeSealed` and `openSealed` take nothing else, and only the
 * egress validator can make one (the constructor is private, and the seal is claimed once).
 */
export class Sealed {
  readonly status: number
  readonly headers: readonly string[]
  readonly body: Buffer | null
  readonly streamed: boolean

  private constructor(status: number, headers: readonly string[], body: Buffer | null, streamed: boolean) {
    this.status = status
    this.headers = headers
    this.body = body
    this.streamed = streamed
  }

  static {
    makeSealed = ({ status, headers, body, streamed }) => new Sealed(status, headers, body, streamed)
  }
}

let claimed = false

/** Gives the seal to the first who asks, which is the egress validator when the process starts; everybody later is refused. */
export function claimSeal(): Seal {
  if (claimed) throw new Error('the seal is taken: only the egress validator may make answers')
  claimed = true
  return makeSealed
}

/** Sends a whole answer. `held`: all of it is sent at once, but the exchange ends when this resolves. */
export function writeSealed(response: ServerResponse, sealed: Sealed, held: Promise<void> | null = null): void {
  response.writeHead(sealed.status, sealed.headers as string[])
  if (held !== null) {
    if (sealed.body === null) response.flushHeaders()
    else response.write(sealed.body)
    void held.then(() => response.end())
    return
  }
  if (sealed.body === null) response.end()
  else response.end(sealed.body)
}

/** Sends the head of an answer whose body follows through the returned sink. */
export function openSealed(response: ServerResponse, sealed: Sealed): ServerResponse {
  // In one write with what of the body came with the head. Not `response.cork()`: ended while corked, it sends the last chunk first.
  const { socket } = response
  socket?.cork()
  process.nextTick(() => socket?.uncork())
  response.writeHead(sealed.status, sealed.headers as string[])
  // Node keeps the head until there is a first byte of the body: of an event stream that may be long.
  response.flushHeaders()
  return response
}
