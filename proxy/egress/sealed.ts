import type { ServerResponse } from 'node:http'
import type { StampBytes } from '#core/stamp/template.ts'
import type { Coding } from '../coding/coding.ts'
import type { ExchangeContext } from '../exchange/context.ts'

/** What of an answer leaves. */
export type Leaving = {
  readonly status: number
  /** Flattened pairs. */
  readonly headers: readonly string[]
  /** The whole body; null where the answer has none or streams it. */
  readonly body: Buffer | null
  /** What `body` is still to be coded in; its length is stated then. */
  readonly coding?: Coding
}

/** What is known of a decided answer besides: null outside of an exchange. */
export type Decision = {
  readonly context: ExchangeContext
  /** The stamp that is issued with it, once its event is written. */
  readonly issued: StampBytes | null
  /** Under shadow: it leaves whether its event is written or not. */
  readonly observed: boolean
}

/** Makes a `Decided` and the `Sealed` that comes of it; handed to `validator.ts` alone, by `claimSeal`. */
export type Seal = {
  readonly decide: (leaving: Leaving, decision: Decision | null) => Decided
  readonly seal: (decided: Decided) => Sealed
}

let makeDecided: Seal['decide']
let makeSealed: Seal['seal']

/** An answer that is decided on. It may leave when its event is written: `EgressValidator.seal` makes a `Sealed` of it then. */
export class Decided {
  readonly leaving: Leaving
  readonly decision: Decision | null

  private constructor(leaving: Leaving, decision: Decision | null) {
    this.leaving = leaving
    this.decision = decision
  }

  static {
    makeDecided = (leaving, decision) => new Decided(leaving, decision)
  }
}

/**
 * An answer that may leave. There is no other way to the client: `writeSealed` and `openSealed` take nothing else, and only the
 * egress validator can make one (the constructor is private, and the seal is claimed once).
 */
export class Sealed {
  readonly status: number
  readonly headers: readonly string[]
  readonly body: Buffer | null

  private constructor({ status, headers, body }: Leaving) {
    this.status = status
    this.headers = headers
    this.body = body
  }

  static {
    makeSealed = (decided) => new Sealed(decided.leaving)
  }
}

let claimed = false

/** Gives the seal to the first who asks, which is the egress validator when the process starts; everybody later is refused. */
export function claimSeal(): Seal {
  if (claimed) throw new Error('the seal is taken: only the egress validator may make answers')
  claimed = true
  return { decide: makeDecided, seal: makeSealed }
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
