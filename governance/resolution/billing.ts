import { readFile } from 'node:fs/promises'
import { Agent, request } from 'undici'
import { SignetError } from '#core/error/signet-error.ts'
import type { JsonObject } from '#core/json/value.ts'

/** What the billing system says of an object; null: it does not know it. */
export type BillingApi = {
  /** `GET /v1/payment_intents/{id}`. @throws SignetError CONNECTOR_FAILED */
  payment(id: string): Promise<JsonObject | null>
  /** What `GET /v1/customers/{id}` has in `metadata`, of which Stripe makes text: `tokens_granted`, `voice_minutes`, `tier`. @throws SignetError CONNECTOR_FAILED */
  customer(id: string): Promise<Readonly<Record<string, string>> | null>
  close(): Promise<void>
}

const TIMEOUT_MS = 5_000
const MAX_BYTES = 256 * 1024

/** A client of a Stripe-shaped billing API (https://docs.stripe.com/api). The key is read for each call. */
export function createBillingApi({ url, keyFile }: { readonly url: string; readonly keyFile: string }): BillingApi {
  const agent = new Agent({ connections: 4, connect: { timeout: TIMEOUT_MS } })
  const base = url.replace(/\/$/, '')

  async function get(path: string): Promise<JsonObject | null> {
    try {
      const key = (await readFile(keyFile, 'utf8')).trim()
      const { statusCode, body } = await request(`${base}${path}`, {
        dispatcher: agent,
        headers: { authorization: `Bearer ${key}`, accept: 'application/json' },
        signal: AbortSignal.timeout(TIMEOUT_MS),
      })
      const chunks: Buffer[] = []
      let length = 0
      for await (const chunk of body as AsyncIterable<Buffer>) {
        length += chunk.length
        if (length > MAX_BYTES) throw new SignetError('CONNECTOR_FAILED', 'the billing API answered with too much')
        chunks.push(chunk)
      }
      if (statusCode === 404) return null
      if (statusCode !== 200) throw new SignetError('CONNECTOR_FAILED', `the billing API answered ${statusCode}`)
      const value: unknown = JSON.parse(Buffer.concat(chunks).toString('utf8'))
      if (typeof value !== 'object' || value === null || Array.isArray(value))
        throw new SignetError('CONNECTOR_FAILED', 'the billing API answered with what is no object')
      return value as JsonObject
    } catch (cause) {
      if (cause instanceof SignetError) throw cause
      throw new SignetError('CONNECTOR_FAILED', 'the billing API does not answer, or not with JSON', { cause })
    }
  }

  return {
    async payment(id) {
      const found = await get(`/v1/payment_intents/${encodeURIComponent(id)}`)
      // Who answers about another object than was asked for is not believed.
      if (found !== null && found['id'] !== id)
        throw new SignetError('CONNECTOR_FAILED', 'the billing API answered about another payment')
      return found
    },
    async customer(id) {
      const found = await get(`/v1/customers/${encodeURIComponent(id)}`)
      if (found === null) return null
      if (found['id'] !== id)
        throw new SignetError('CONNECTOR_FAILED', 'the billing API answered about another customer')
      const { metadata } = found
      if (typeof metadata !== 'object' || metadata === null || Array.isArray(metadata)) return {}
      return Object.fromEntries(
        Object.entries(metadata).filter((entry): entry is [string, string] => typeof entry[1] === 'string'),
      )
    },
    close: () => agent.close(),
  }
}
