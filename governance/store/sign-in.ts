import type { Client } from '#runtime/postgres/transaction.ts'

export type SignInRow = {
  id: string
  email: string
  password: string | null
  locked_until: Date | null
  failed_logins: number
}

/** An active user by address. `lock`: as it is until the transaction ends. */
export async function findForSignIn(
  client: Client,
  tenant: string,
  email: string,
  lock = false,
): Promise<SignInRow | null> {
  const { rows } = await client.query<SignInRow>(
    `SELECT id, email, password, locked_until, failed_logins FROM signet.users
     WHERE tenant = $1 AND lower(email) = lower($2) AND state = 'active'${lock ? ' FOR UPDATE' : ''}`,
    [tenant, email],
  )
  return rows[0] ?? null
}

/** Counts a wrong password; `lockedUntil` from the `maxFailed`th in a row on. */
export async function countFailure(
  client: Client,
  tenant: string,
  id: string,
  limit: { maxFailed: number; lockedUntil: Date },
): Promise<void> {
  await client.query(
    `UPDATE signet.users SET failed_logins = failed_logins + 1,
       locked_until = CASE WHEN failed_logins + 1 >= $3 THEN $4 ELSE locked_until END
     WHERE tenant = $1 AND id = $2`,
    [tenant, id, limit.maxFailed, limit.lockedUntil],
  )
}

export async function clearFailures(client: Client, tenant: string, id: string): Promise<void> {
  await client.query(
    'UPDATE signet.users SET failed_logins = 0, locked_until = NULL WHERE tenant = $1 AND id = $2 AND (failed_logins > 0 OR locked_until IS NOT NULL)',
    [tenant, id],
  )
}

export async function isTenant(client: Client, tenant: string): Promise<boolean> {
  const { rowCount } = await client.query("SELECT 1 FROM signet.tenants WHERE tenant = $1 AND state = 'active'", [
    tenant,
  ])
  return rowCount === 1
}
