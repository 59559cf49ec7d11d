import { randomBytes } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'
import { request } from 'undici'
import { SignetError } from '#core/error/signet-error.ts'
import {
  MAX_RESPONSE_BYTES,
  REQUEST_TYPE,
  RESPONSE_TYPE,
  timestampRequest,
  tokenOf,
} from '#runtime/timestamp/rfc3161.ts'

/** A token over a message, in DER. @throws SignetError TIMESTAMP_UNAVAILABLE, TIMESTAMP_INVALID */
export type Timestamp = (message: Uint8Array) => Promise<Buffer>

const TIMEOUT_MS = 10_000
const PAUSES_MS = [500, 2_000]

/** Asks a time-stamp authority over HTTP (RFC 3161, section 3.4): three times, where it does not answer or is busy. */
export function createTimestamp(url: string, pausesMs: readonly number[] = PAUSES_MS): Timestamp {
  return async (message) => {
    for (let attempt = 0; ; attempt++) {
      const nonce = randomBytes(8)
      try {
        return await tokenOf(await ask(url, timestampRequest(message, nonce)), message, nonce)
      } catch (error) {
        const pauseMs = pausesMs[attempt]
        const isTransient = error instanceof SignetError && error.code === 'TIMESTAMP_UNAVAILABLE'
        if (!isTransient || pauseMs === undefined) throw error
        await sleep(pauseMs)
      }
    }
  }
}

async function ask(url: string, query: Buffer): Promise<Buffer> {
  const unavailable = (why: string, cause?: unknown): SignetError =>
    new SignetError('TIMESTAMP_UNAVAILABLE', `the time-stamp authority ${new URL(url).host} ${why}`, { cause })
  let status: number
  let type: string
  const chunks: Buffer[] = []
  try {
    const response = await request(url, {
      method: 'POST',
      headers: { 'content-type': REQUEST_TYPE, accept: RESPONSE_TYPE },
      body: query,
      signal: AbortSignal.timeout(TIMEOUT_MS),
    })
    status = response.statusCode
    type = String(response.headers['content-type'] ?? '')
    let length = 0
    for await (const chunk of response.body as AsyncIterable<Buffer>) {
      length += chunk.length
      if (length > MAX_RESPONSE_BYTES) throw new Error('its answer is too long')
      chunks.push(chunk)
    }
  } catch (cause) {
    throw unavailable(`cannot be reached: ${cause instanceof Error ? cause.message : String(cause)}`, cause)
  }
  if (status === 429 || status >= 500) throw unavailable(`answers ${status}`)
  if (status !== 200 || !type.toLowerCase().startsWith(RESPONSE_TYPE))
    throw new SignetError(
      'TIMESTAMP_INVALID',
      `the time-stamp authority answers ${status} with ${type.slice(0, 100) || 'no type'}`,
    )
  return Buffer.concat(chunks)
}
