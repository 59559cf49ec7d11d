import { SignetError } from '#core/error/signet-error.ts'
import { withTenant, type Pool } from '#runtime/postgres/transaction.ts'
import type { Logger } from '#runtime/telemetry/log.ts'
import { keepDoing, type Background } from '../background.ts'
import { tenantNames } from '../store/tenants.ts'
import { deleteOldDeliveries, endDelivery, takeDueDeliveries, type DueDelivery } from '../store/webhooks.ts'
import type { SecretBox } from './sealed-secret.ts'
import { retryDelayMs } from './webhook-retry.ts'
import { parseWebhookSecret } from './webhook-signature.ts'
import type { Delivered, WebhookSender } from './webhook.ts'

export type DeliverDeps = {
  readonly pool: Pool
  readonly sender: WebhookSender
  /** null: secrets cannot be opened, and nothing is sent. */
  readonly box: SecretBox | null
  readonly clock: () => Date
  readonly random: () => number
  readonly log: Logger
  readonly onEnded?: (outcome: Delivered['outcome']) => void
}

const LOOK_MS = 1_000
const TIDY_MS = 60 * 60_000
/** Of a tenant, and of all together. */
const AT_ONCE = 10
const AT_ONCE_IN_ALL = 200
/** Longer than a try may take: then another process takes it. */
const LEASE_MS = 60_000

/** Sends what is due, again and again; several processes may. A receiver that hangs holds up others of its tenant, and nobody else. */
export function keepDelivering(deps: DeliverDeps): Background {
  const { pool, log, box, clock } = deps
  /** What is on its way, by tenant: who has some is left alone until it is through. */
  const rounds = new Map<string, Promise<void>>()
  let sending = 0
  let tidiedMs = 0

  async function look(signal: AbortSignal): Promise<void> {
    if (box === null) return
    const isTidying = clock().getTime() - tidiedMs >= TIDY_MS
    for (const tenant of await tenantNames(pool)) {
      if (signal.aborted) return
      if (isTidying) await withTenant(pool, tenant, (client) => deleteOldDeliveries(client, tenant, clock()))
      if (rounds.has(tenant) || sending > AT_ONCE_IN_ALL - AT_ONCE) continue
      const now = clock()
      const until = new Date(now.getTime() + LEASE_MS)
      const due = await withTenant(pool, tenant, (client) =>
        takeDueDeliveries(client, tenant, { now, until, limit: AT_ONCE }),
      )
      if (due.length > 0) rounds.set(tenant, sendRound(tenant, due, box))
    }
    if (isTidying) tidiedMs = clock().getTime()
  }

  /** Never rejects: what could not be noted is taken again when its lease is over. */
  async function sendRound(tenant: string, due: readonly DueDelivery[], secrets: SecretBox): Promise<void> {
    sending += due.length
    const ended = await Promise.allSettled(due.map((delivery) => sendOne(tenant, delivery, secrets)))
    for (const one of ended)
      if (one.status === 'rejected') log.warn({ error: one.reason, tenant }, 'what became of a webhook cannot be kept')
    sending -= due.length
    rounds.delete(tenant)
  }

  async function sendOne(tenant: string, delivery: DueDelivery, secrets: SecretBox): Promise<void> {
    const { id, webhook_id: connectorId, tries, body, url, secret } = delivery
    let sent: Delivered
    try {
      const key = parseWebhookSecret(secrets.open({ tenant, connectorId }, secret))
      sent = await deps.sender.send({ url, key, id, body })
    } catch (error) {
      log.error({ error, tenant, webhook: connectorId }, 'a webhook’s secret cannot be opened')
      sent = { outcome: 'retry', reason: error instanceof SignetError ? error.code : 'it could not be signed' }
    }
    const delay = sent.outcome === 'retry' ? retryDelayMs(tries, deps.random()) : null
    const status = sent.outcome === 'delivered' ? 'delivered' : delay === null ? 'dead' : 'pending'
    const reason = sent.outcome === 'delivered' ? null : sent.reason
    const nextAt = new Date(clock().getTime() + (delay ?? 0))
    await withTenant(pool, tenant, (client) => endDelivery(client, tenant, id, { status, reason, nextAt }))
    deps.onEnded?.(status === 'dead' ? 'dead' : sent.outcome)
    if (status === 'dead')
      log.warn({ tenant, webhook: connectorId, delivery: id, reason }, 'a webhook’s message is a dead letter')
  }

  const onError = (error: unknown): void => log.warn({ error }, 'webhooks cannot be looked at; it is tried again')
  const looking = keepDoing(look, { everyMs: LOOK_MS, onError })
  return {
    async stop() {
      await looking.stop()
      await Promise.all(rounds.values())
    },
  }
}
