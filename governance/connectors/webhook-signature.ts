import { createHmac } from 'node:crypto'
import { SignetError } from '#core/error/signet-error.ts'

const PREFIX = 'whsec_'
const MIN_BYTES = 24
const MAX_BYTES = 64

/** One message to sign. `id` stays the same when it is sent again, so that the receiver knows it; `seconds`: Unix time of this try. */
export type SignedMessage = { readonly id: string; readonly seconds: number; readonly body: string }

/**
 * The key of a secret as Standard Webhooks writes it: `whsec_` and 24 to 64 bytes in base64
 * (https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md). @throws SignetError REQUEST_INVALID, without it
 */
export function parseWebhookSecret(secret: string): Buffer {
  const text = secret.startsWith(PREFIX) ? secret.slice(PREFIX.length) : ''
  const key = Buffer.from(text, 'base64')
  if (key.toString('base64') !== text || key.length < MIN_BYTES || key.length > MAX_BYTES)
    throw new SignetError(
      'REQUEST_INVALID',
      `a webhook secret is ${PREFIX} and ${MIN_BYTES} to ${MAX_BYTES} bytes in base64, with its padding`,
    )
  return key
}

/** The headers that a receiver verifies: HMAC-SHA256 over `id.seconds.body`. @throws RangeError for an id with a dot, which would be ambiguous */
export function signedHeaders(key: Buffer, { id, seconds, body }: SignedMessage): Readonly<Record<string, string>> {
  if (!/^[A-Za-z0-9_-]{1,100}$/.test(id)) throw new RangeError('a message id has letters, digits, _ and - only')
  const signature = createHmac('sha256', key).update(`${id}.${seconds}.${body}`).digest('base64')
  return { 'webhook-id': id, 'webhook-timestamp': String(seconds), 'webhook-signature': `v1,${signature}` }
}
