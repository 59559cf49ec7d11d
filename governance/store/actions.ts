import type { Client, Pool } from '#runtime/postgres/transaction.ts'
import { withTenant } from '#runtime/postgres/transaction.ts'

export type ActionState = 'intended' | 'committed' | 'failed' | 'reverted' | 'denied'
export type StoredAction = {
  readonly tenant: string
  readonly id: string
  readonly state: ActionState
  readonly action: string
  readonly resource: string
  readonly principal: string
  readonly intent: string | null
  readonly outcome: string | null
  readonly started_at: Date
  readonly ended_at: Date | null
  readonly recorded_at: Date | null
}
type NewAction = Pick<
  StoredAction,
  'tenant' | 'id' | 'state' | 'action' | 'resource' | 'principal' | 'intent' | 'outcome'
>

export async function insertAction(client: Client, made: NewAction): Promise<void> {
  const { tenant, id, state, action, resource, principal, intent, outcome } = made
  await client.query(
    `INSERT INTO signet.actions (tenant, id, state, action, resource, principal, intent, outcome, ended_at)
     VALUES ($1, $2, $3::text, $4, $5, $6, $7, $8, CASE WHEN $3::text = 'intended' THEN NULL ELSE now() END)`,
    [tenant, id, state, action, resource, principal, intent, outcome],
  )
}

/** Ends an action that is still only intended; false where somebody else ended it. In the transaction of `client`. */
export async function endAction(
  client: Client,
  tenant: string,
  id: string,
  state: 'committed' | 'failed' | 'reverted' | 'denied',
  outcome: string,
): Promise<boolean> {
  const { rowCount } = await client.query(
    `UPDATE signet.actions SET state = $3, outcome = $4, ended_at = now() WHERE tenant = $1 AND id = $2 AND state = 'intended'`,
    [tenant, id, state, outcome],
  )
  return rowCount === 1
}

/** The ledger has acknowledged all that is to be said of it. */
export async function markRecorded(pool: Pool, tenant: string, id: string): Promise<void> {
  await withTenant(pool, tenant, (client) =>
    client.query(
      'UPDATE signet.actions SET recorded_at = now() WHERE tenant = $1 AND id = $2 AND recorded_at IS NULL',
      [tenant, id],
    ),
  )
}

export async function findAction(client: Client, tenant: string, id: string): Promise<StoredAction | null> {
  const { rows } = await client.query<StoredAction>('SELECT * FROM signet.actions WHERE tenant = $1 AND id = $2', [
    tenant,
    id,
  ])
  return rows[0] ?? null
}

/** The ledger will not take what is to be said of it: all others come first from now on. */
export async function markRefused(pool: Pool, tenant: string, id: string): Promise<void> {
  await withTenant(pool, tenant, (client) =>
    client.query('UPDATE signet.actions SET refused_at = now() WHERE tenant = $1 AND id = $2', [tenant, id]),
  )
}

/** Actions of a tenant that were begun before `before` and are not recorded: oldest first, but those that were refused come last. */
export async function openActions(pool: Pool, tenant: string, before: Date, limit: number): Promise<StoredAction[]> {
  return withTenant(
    pool,
    tenant,
    async (client) =>
      (
        await client.query<StoredAction>(
          'SELECT * FROM signet.actions WHERE tenant = $1 AND recorded_at IS NULL AND started_at < $2 ORDER BY refused_at NULLS FIRST, started_at LIMIT $3',
          [tenant, before, limit],
        )
      ).rows,
    { readOnly: true },
  )
}
