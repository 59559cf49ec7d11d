import { readFile } from 'node:fs/promises'
import type { KeyObject } from 'node:crypto'
import { Compile } from 'typebox/compile'
import { Pool } from 'undici'
import { SignetError } from '#core/error/signet-error.ts'
import { IDENTITY_PATH, IdentityAnswer, proveKey } from '#core/identity/exchange.ts'

export type KeyPair = { readonly publicKey: KeyObject; readonly privateKey: KeyObject }

export type IdentityClientOptions = {
  /** Of the ledger; `https://` only, since a key comes over it. */
  readonly url: string
  /** Read anew for each exchange, since the kubelet renews it. */
  readonly tokenFile: string
  /** PEM: the authorities that the ledger's certificate may come from; no others are trusted. */
  readonly ca: string
  readonly tenant: string
  readonly producerId: string
  readonly clock: () => Date
  readonly timeoutMs?: number
}

/**
 * Exchanges the token of this pod for its keys (`POST /v1/identity`). `exchange` throws SignetError: LEDGER_UNREACHABLE, LEDGER_REFUSED
 * (`details`: `status`, `code`), LEDGER_RESPONSE_INVALID.
 */
export type IdentityClient = {
  exchange(pair: KeyPair, signal: AbortSignal): Promise<IdentityAnswer>
  close(): Promise<void>
}

const MAX_ANSWER_BYTES = 512 * 1024
const validator = Compile(IdentityAnswer)

/** @throws SignetError CONFIG_INVALID unless the URL is an https URL */
export function createIdentityClient(options: IdentityClientOptions): IdentityClient {
  const { tokenFile, ca, tenant, producerId, clock, timeoutMs = 10_000 } = options
  const base = new URL(options.url)
  if (base.protocol !== 'https:') {
    throw new SignetError(
      'CONFIG_INVALID',
      'SIGNET_LEDGER_URL must be an https URL where SIGNET_KEYRING is not set: the ledger then sends the stamp key',
    )
  }
  const path = base.pathname.replace(/\/$/, '') + IDENTITY_PATH
  const limits = { connectTimeout: timeoutMs, headersTimeout: timeoutMs, bodyTimeout: timeoutMs }
  const pool = new Pool(base.origin, { connections: 1, ...limits, connect: { ca } })

  async function send(token: string, body: string, signal: AbortSignal): Promise<{ status: number; body: Buffer }> {
    const deadline = AbortSignal.timeout(timeoutMs)
    try {
      const response = await pool.request({
        method: 'POST',
        path,
        headers: { authorization: `Bearer ${token}`, accept: 'application/json', 'content-type': 'application/json' },
        body,
        signal: AbortSignal.any([signal, deadline]),
      })
      return { status: response.statusCode, body: await readAll(response.body) }
    } catch (cause) {
      if (cause instanceof SignetError) throw cause
      const why = deadline.aborted ? `no answer within ${timeoutMs} ms` : (cause as Error).message
      throw new SignetError('LEDGER_UNREACHABLE', `The ledger at ${base.origin} cannot be reached: ${why}`, { cause })
    }
  }

  return {
    async exchange(pair, signal) {
      const token = await readToken(tokenFile)
      const request = { version: 1, tenant, producer_id: producerId, ...proveKey(token, pair, clock()) }
      const answer = await send(token, JSON.stringify(request), signal)
      const value = parse(answer.body)
      if (answer.status !== 200) throw refusal(answer.status, value)
      if (!validator.Check(value)) {
        const fault = validator.Errors(value)[0]
        throw invalid(`${fault?.instancePath || '/'} ${fault?.message ?? 'is not valid'}`)
      }
      return value
    },
    close: () => pool.close(),
  }
}

async function readToken(file: string): Promise<string> {
  try {
    return (await readFile(file, 'utf8')).trim()
  } catch (cause) {
    throw new SignetError('LEDGER_UNREACHABLE', `The token for the ledger cannot be read from ${file}`, { cause })
  }
}

async function readAll(body: AsyncIterable<Buffer>): Promise<Buffer> {
  const chunks: Buffer[] = []
  let length = 0
  for await (const chunk of body) {
    length += chunk.length
    if (length > MAX_ANSWER_BYTES) throw invalid(`it has more than ${MAX_ANSWER_BYTES} bytes`)
    chunks.push(chunk)
  }
  return Buffer.concat(chunks, length)
}

function parse(body: Buffer): unknown {
  try {
    return JSON.parse(body.toString('utf8'))
  } catch {
    return undefined
  }
}

/** With what an RFC 9457 problem says; never with the body of an answer that might hold a key. */
function refusal(status: number, problem: unknown): SignetError {
  const { code, detail } = Object(problem) as { code?: unknown; detail?: unknown }
  const isTransient = status >= 500 || status === 408 || status === 425 || status === 429 || status < 400
  const words = typeof detail === 'string' ? `: ${detail.slice(0, 300)}` : ''
  return new SignetError(
    isTransient ? 'LEDGER_UNREACHABLE' : 'LEDGER_REFUSED',
    `The ledger gives no identity; it answered ${status}${words}`,
    { details: { status, ...(typeof code === 'string' ? { code: code.slice(0, 64) } : {}) } },
  )
}

function invalid(why: string): SignetError {
  return new SignetError('LEDGER_RESPONSE_INVALID', `The identity that the ledger answered is not valid: ${why}`)
}
