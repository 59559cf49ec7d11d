import type { BlockList } from 'node:net'
import { request } from 'undici'
import { createGuardedAgent, isForbidden, type Resolve } from './guarded-agent.ts'
import { signedHeaders } from './webhook-signature.ts'

export type WebhookDeps = {
  readonly nowMs: () => number
  /** For one try, from connecting to the answer. */
  readonly timeoutMs: number
  /** Networks that are reachable although they are not public; over plain HTTP as well. */
  readonly allowed: BlockList
  /** All addresses of a name. DNS where left out. */
  readonly resolve?: Resolve | undefined
}

/** `id`: the same for every try. `body`: JSON. */
export type Delivery = { readonly url: string; readonly key: Buffer; readonly id: string; readonly body: string }

/** `retry`: later (`webhook-retry.ts`); `dead`: never, as it cannot or must not be sent. `reason` has no secret and nothing of the answer. */
export type Delivered =
  | { readonly outcome: 'delivered'; readonly status: number }
  | { readonly outcome: 'retry' | 'dead'; readonly reason: string }

export type WebhookSender = { send(delivery: Delivery): Promise<Delivered>; close(): Promise<void> }

const MAX_ANSWER_BYTES = 16 * 1024
const CONNECTIONS_PER_HOST = 4

/**
 * Sends signed messages (Standard Webhooks). The address that is connected to is the one that was checked, so that a name which
 * resolves to another address a moment later gains nothing; redirects are not followed. `send` never throws.
 */
export function createWebhookSender({ nowMs, timeoutMs, allowed, resolve }: WebhookDeps): WebhookSender {
  const { agent, refusalOf } = createGuardedAgent({ allowed, timeoutMs, connections: CONNECTIONS_PER_HOST, resolve })

  return {
    async send({ url, key, id, body }) {
      const refusal = refusalOf(url)
      if (refusal !== null) return { outcome: 'dead', reason: refusal }
      const signal = AbortSignal.timeout(timeoutMs)
      try {
        const seconds = Math.floor(nowMs() / 1_000)
        const answer = await request(url, {
          dispatcher: agent,
          method: 'POST',
          headers: { ...signedHeaders(key, { id, seconds, body }), 'content-type': 'application/json' },
          body,
          signal,
        })
        // The status says it; a body that is long or never ends changes nothing.
        await answer.body.dump({ limit: MAX_ANSWER_BYTES, signal }).catch(() => {})
        return decide(answer.statusCode)
      } catch (error) {
        if (isForbidden(error)) return { outcome: 'dead', reason: 'the name resolves to an address that is not public' }
        return {
          outcome: 'retry',
          reason: signal.aborted ? 'no answer in time' : 'cannot be reached, or not spoken to',
        }
      }
    },
    close: () => agent.destroy(),
  }
}

function decide(status: number): Delivered {
  if (status >= 200 && status < 300) return { outcome: 'delivered', status }
  // The receiver wants no more (Standard Webhooks).
  if (status === 410) return { outcome: 'dead', reason: 'it answered 410: gone' }
  return { outcome: 'retry', reason: `it answered ${status}` }
}
