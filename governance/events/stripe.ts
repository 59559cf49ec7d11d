import { createHmac, timingSafeEqual } from 'node:crypto'
import type { JsonObject } from '#core/json/value.ts'

/** How old a signature may be, as Stripe's own libraries have it. */
const TOLERANCE_MS = 300_000

/**
 * Whether a header is Stripe's signature over a payload: `t=SECONDS,v1=HEX`, HMAC-SHA256 over `t.payload`
 * (https://docs.stripe.com/webhooks#verify-manually). `nowMs`: when it came.
 */
export function isStripeSignature(payload: string, header: string, secret: string, nowMs: number): boolean {
  const parts = header.split(',').map((part) => part.trim().split('='))
  const seconds = Number(parts.find(([name]) => name === 't')?.[1])
  if (!Number.isSafeInteger(seconds) || Math.abs(nowMs - seconds * 1_000) > TOLERANCE_MS) return false
  const want = createHmac('sha256', secret).update(`${seconds}.${payload}`).digest()
  return parts
    .filter(([name]) => name === 'v1')
    .some(([, hex = '']) => {
      const given = /^[0-9a-f]{64}$/.test(hex) ? Buffer.from(hex, 'hex') : Buffer.alloc(0)
      return given.length === want.length && timingSafeEqual(given, want)
    })
}

/** The object that an event is about, as far as it is compared; null where there is none. */
export function stripeObject(payload: string): JsonObject | null {
  try {
    const { data } = JSON.parse(payload) as { data?: { object?: Record<string, unknown> } }
    const object = data?.object
    if (typeof object?.['id'] !== 'string') return null
    const { id, amount, currency, status } = object
    return {
      id,
      ...(typeof amount === 'number' ? { amount } : {}),
      ...(typeof currency === 'string' ? { currency } : {}),
      ...(typeof status === 'string' ? { status } : {}),
    }
  } catch {
    return null
  }
}
