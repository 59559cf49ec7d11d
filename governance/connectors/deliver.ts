import { SignetError } from '#core/error/signet-error.ts'
import { query, withTenant, type Pool } from '#runtime/postgres/transaction.ts'
import type { Logger } from '#runtime/telemetry/log.ts'
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
const AT_ONCE = 10
/** Longer than a try may take: then another process takes it. */
const LEASE_MS = 60_000

/** Sends what is due, again and again; several processes may. A receiver that hangs holds up the others of its round, and no more. */
export function keepDelivering(deps: DeliverDeps): { stop(): Promise<void> } {
  const { pool, log, box, clock } = deps
  let stopped = false
  let running: Promise<void> | null = null
  let tidiedMs = 0

  async function look(): Promise<void> {
    const rows = await query<{ tenant: string }>(pool, 'SELECT tenant FROM signet.tenant_names() AS t(tenant)')
    const isTidy = clock().getTime() - tidiedMs < TIDY_MS
    for (const { tenant } of rows) {
      if (stopped || box === null) return
      if (!isTidy) await withTenant(pool, tenant, (client) => deleteOldDeliveries(client, tenant, clock()))
      const now = clock()
      const until = new Date(now.getTime() + LEASE_MS)
      const due = await withTenant(pool, tenant, (client) =>
        takeDueDeliveries(client, tenant, { now, until, limit: AT_ONCE }),
      )
      await Promise.all(due.map((delivery) => sendOne(tenant, delivery, box)))
    }
    if (!isTidy) tidiedMs = clock().getTime()
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

  const timer = setInterval(() => {
    running ??= look()
      .catch((error: unknown) => log.warn({ error }, 'webhooks cannot be looked at; it is tried again'))
      .finally(() => {
        running = null
      })
  }, LOOK_MS)
  return {
    async stop() {
      stopped = true
      clearInterval(timer)
      await running
    },
  }
}
