import type { Client } from '#runtime/postgres/transaction.ts'
import type { Cursor } from './paging.ts'

export type WebhookRow = {
  readonly id: string
  readonly url: string
  readonly description: string
  readonly events: string[]
  readonly state: 'active' | 'disabled'
  readonly version: number
  readonly created_at: Date
  readonly updated_at: Date
}
export type DeliveryRow = {
  readonly id: string
  readonly webhook_id: string
  readonly event_type: string
  readonly status: 'pending' | 'delivered' | 'dead'
  readonly tries: number
  readonly next_at: Date
  readonly last_reason: string | null
  readonly created_at: Date
  readonly ended_at: Date | null
}
export type DueDelivery = {
  readonly id: string
  readonly webhook_id: string
  readonly tries: number
  readonly body: string
  readonly url: string
  readonly secret: Buffer
}

const WEBHOOK = 'id, url, description, events, state, version, created_at, updated_at'
const DELIVERY = 'id, webhook_id, event_type, status, tries, next_at, last_reason, created_at, ended_at'

export async function countWebhooks(client: Client, tenant: string): Promise<number> {
  const { rows } = await client.query<{ count: number }>(
    'SELECT count(*)::int AS count FROM signet.webhooks WHERE tenant = $1',
    [tenant],
  )
  return rows[0]?.count ?? 0
}

export async function insertWebhook(
  client: Client,
  tenant: string,
  made: Pick<WebhookRow, 'id' | 'url' | 'description' | 'events'> & { readonly secret: Buffer },
): Promise<WebhookRow> {
  const { rows } = await client.query<WebhookRow>(
    `INSERT INTO signet.webhooks (tenant, id, url, description, events, secret) VALUES ($1, $2, $3, $4, $5, $6) RETURNING ${WEBHOOK}`,
    [tenant, made.id, made.url, made.description, JSON.stringify(made.events), made.secret],
  )
  return rows[0]!
}

export async function listWebhooks(client: Client, tenant: string): Promise<WebhookRow[]> {
  const { rows } = await client.query<WebhookRow>(
    `SELECT ${WEBHOOK} FROM signet.webhooks WHERE tenant = $1 ORDER BY created_at, id`,
    [tenant],
  )
  return rows
}

export async function findWebhook(
  client: Client,
  tenant: string,
  id: string,
  lock = false,
): Promise<WebhookRow | null> {
  const { rows } = await client.query<WebhookRow>(
    `SELECT ${WEBHOOK} FROM signet.webhooks WHERE tenant = $1 AND id = $2${lock ? ' FOR UPDATE' : ''}`,
    [tenant, id],
  )
  return rows[0] ?? null
}

export async function updateWebhook(
  client: Client,
  tenant: string,
  row: Pick<WebhookRow, 'id' | 'url' | 'description' | 'events' | 'state'>,
): Promise<WebhookRow> {
  const { rows } = await client.query<WebhookRow>(
    `UPDATE signet.webhooks SET url = $3, description = $4, events = $5, state = $6, version = version + 1, updated_at = now()
     WHERE tenant = $1 AND id = $2 RETURNING ${WEBHOOK}`,
    [tenant, row.id, row.url, row.description, JSON.stringify(row.events), row.state],
  )
  return rows[0]!
}

export async function replaceSecret(client: Client, tenant: string, id: string, secret: Buffer): Promise<void> {
  await client.query(
    'UPDATE signet.webhooks SET secret = $3, version = version + 1, updated_at = now() WHERE tenant = $1 AND id = $2',
    [tenant, id, secret],
  )
}

export async function deleteWebhook(client: Client, tenant: string, id: string): Promise<void> {
  await client.query('DELETE FROM signet.webhooks WHERE tenant = $1 AND id = $2', [tenant, id])
}

/** A message for everybody of the tenant who wants to be told of events of this type, in the transaction of what it tells. */
export async function enqueueDeliveries(
  client: Client,
  tenant: string,
  { type, body }: { readonly type: string; readonly body: string },
): Promise<void> {
  await client.query(
    `INSERT INTO signet.webhook_deliveries (tenant, id, webhook_id, event_type, body)
     SELECT $1, gen_random_uuid(), w.id, $2::text, $3 FROM signet.webhooks w
     WHERE w.tenant = $1 AND w.state = 'active'
       AND (w.events = '[]' OR w.events ? $2 OR w.events ? (split_part($2, '.', 1) || '.*'))`,
    [tenant, type, body],
  )
}

/** Takes what is due: until `until` nobody else does. */
export async function takeDueDeliveries(
  client: Client,
  tenant: string,
  { now, until, limit }: { readonly now: Date; readonly until: Date; readonly limit: number },
): Promise<DueDelivery[]> {
  const { rows } = await client.query<DueDelivery>(
    `WITH due AS (
       SELECT id FROM signet.webhook_deliveries WHERE tenant = $1 AND status = 'pending' AND next_at <= $2
       ORDER BY next_at LIMIT $4 FOR UPDATE SKIP LOCKED)
     UPDATE signet.webhook_deliveries d SET next_at = $3, tries = d.tries + 1 FROM due, signet.webhooks w
     WHERE d.tenant = $1 AND d.id = due.id AND w.tenant = $1 AND w.id = d.webhook_id AND w.state = 'active'
     RETURNING d.id, d.webhook_id, d.tries, d.body, w.url, w.secret`,
    [tenant, now, until, limit],
  )
  return rows
}

export async function endDelivery(
  client: Client,
  tenant: string,
  id: string,
  {
    status,
    reason,
    nextAt,
  }: { readonly status: DeliveryRow['status']; readonly reason: string | null; readonly nextAt: Date },
): Promise<void> {
  await client.query(
    `UPDATE signet.webhook_deliveries SET status = $3::text, last_reason = $4, next_at = $5,
       ended_at = CASE WHEN $3::text = 'pending' THEN NULL ELSE now() END WHERE tenant = $1 AND id = $2 AND status = 'pending'`,
    [tenant, id, status, reason, nextAt],
  )
}

/** One more than `limit` where there is a next page; newest first. */
export async function listDeliveries(
  client: Client,
  tenant: string,
  webhookId: string,
  { after, limit, status }: { after: Cursor | null; limit: number; status: DeliveryRow['status'] | null },
): Promise<DeliveryRow[]> {
  const { rows } = await client.query<DeliveryRow>(
    `SELECT ${DELIVERY} FROM signet.webhook_deliveries
     WHERE tenant = $1 AND webhook_id = $2 AND ($3::timestamptz IS NULL OR (created_at, id) < ($3, $4::uuid)) AND ($5::text IS NULL OR status = $5)
     ORDER BY created_at DESC, id DESC LIMIT $6`,
    [tenant, webhookId, after?.at ?? null, after?.id ?? null, status, limit + 1],
  )
  return rows
}

/** Dead letters of a webhook are tried again from the beginning. @returns how many */
export async function reviveDeliveries(client: Client, tenant: string, webhookId: string): Promise<number> {
  const { rowCount } = await client.query(
    `UPDATE signet.webhook_deliveries SET status = 'pending', tries = 0, next_at = now(), ended_at = NULL WHERE tenant = $1 AND webhook_id = $2 AND status = 'dead'`,
    [tenant, webhookId],
  )
  return rowCount ?? 0
}

/** What was told thirty days ago, and what nobody took ninety days ago. */
export async function deleteOldDeliveries(client: Client, tenant: string, now: Date): Promise<void> {
  await client.query(
    `DELETE FROM signet.webhook_deliveries WHERE tenant = $1 AND id IN (
       SELECT id FROM signet.webhook_deliveries WHERE tenant = $1 AND status <> 'pending'
         AND ended_at < $2::timestamptz - CASE status WHEN 'delivered' THEN interval '30 days' ELSE interval '90 days' END LIMIT 10000)`,
    [tenant, now],
  )
}
