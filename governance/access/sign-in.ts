import type { Counter } from 'prom-client'
import { SignetError } from '#core/error/signet-error.ts'
import { withTenant, type Client, type Pool } from '#runtime/postgres/transaction.ts'
import type { ActionRunner } from '../actions/runner.ts'
import { insertToken } from '../store/access.ts'
import { clearFailures, countFailure, findForSignIn, isTenant, type SignInRow } from '../store/sign-in.ts'
import { passwordMatches } from './password.ts'
import { newToken } from './token.ts'

export type SignInDeps = {
  readonly pool: Pool
  readonly runner: ActionRunner
  readonly newId: () => string
  readonly clock: () => Date
  readonly failures: Counter<'reason'>
}
type Attempt = {
  readonly tenant: string
  readonly email: string
  readonly password: string
  readonly traceId: string
  readonly requestId: string
}

const SESSION_MS = 12 * 60 * 60 * 1000
const MAX_FAILED = 5
const LOCKED_MS = 15 * 60 * 1000

/**
 * Signs a user in with a password: a session token for twelve hours. Five wrong passwords in a row lock the account for a quarter of an hour.
 * What is answered, and how long it takes, does not tell an unknown address, a wrong password and a locked account apart.
 * @throws SignetError UNAUTHENTICATED, TOO_MANY_REQUESTS, OUTCOME_PENDING
 */
export async function signIn(deps: SignInDeps, attempt: Attempt): Promise<{ token: string; expiresAt: Date }> {
  const { pool, runner, clock, failures } = deps
  const { tenant, email, password, traceId, requestId } = attempt
  const startedMs = clock().getTime()
  const { known, user } = await look(pool, tenant, email)
  const matches = await passwordMatches(password, user?.password ?? null)
  const at = clock()
  const isLocked = user?.locked_until != null && user.locked_until > at
  const subject = {
    tenant,
    actor: user?.email ?? 'unknown',
    action: 'sessions.write',
    resource: 'sessions',
    resourceType: 'sessions',
    resourceId: null,
    traceId,
    requestId,
  }
  const refuse = async (reason: 'unknown' | 'locked' | 'password' | 'changed'): Promise<never> => {
    failures.inc({ reason })
    const error = new SignetError(
      'UNAUTHENTICATED',
      'tenant, e-mail address and password do not go together, or the account is locked',
    )
    const ending = { state: 'denied', reason: { code: error.code, detail: reason }, startedMs } as const
    const limit = { maxFailed: MAX_FAILED, lockedUntil: new Date(at.getTime() + LOCKED_MS) }
    // A tenant that there is not has no chain.
    if (known)
      await runner.settle(subject, ending, async (client) => {
        if (reason === 'password' && user !== null) await countFailure(client, tenant, user.id, limit)
      })
    throw error
  }
  if (user === null) return refuse('unknown')
  if (isLocked) return refuse('locked')
  if (!matches) return refuse('password')
  const { token, sha256 } = newToken()
  const expiresAt = new Date(at.getTime() + SESSION_MS)
  const id = deps.newId()
  const after = { session: id, expires_at: expiresAt.toISOString() }
  const open = async (client: Client): Promise<void> => {
    await requireUnchanged(client, tenant, user, at)
    await clearFailures(client, tenant, user.id)
    const principal = { kind: 'user', id: user.id } as const
    await insertToken(client, tenant, {
      id,
      kind: 'session',
      name: 'session',
      sha256,
      principal,
      scopes: null,
      expiresAt,
    })
  }
  try {
    await runner.settle(subject, { state: 'committed', after, resourceId: id, startedMs }, open)
  } catch (error) {
    if (error instanceof ChangedMeanwhile) return refuse(error.reason)
    throw error
  }
  return { token, expiresAt }
}

class ChangedMeanwhile extends Error {
  readonly reason: 'locked' | 'changed'
  constructor(reason: 'locked' | 'changed') {
    super(reason)
    this.reason = reason
  }
}

/**
 * Checking a password takes a while, and waits for others. What was decided meanwhile holds: no session for who was disabled or has another
 * password now, and none for the one of many guesses at once that was right, once the others have locked the account.
 * @throws ChangedMeanwhile
 */
async function requireUnchanged(client: Client, tenant: string, user: SignInRow, at: Date): Promise<void> {
  const now = await findForSignIn(client, tenant, user.email, true)
  if (now === null || now.id !== user.id || now.password !== user.password) throw new ChangedMeanwhile('changed')
  if (now.locked_until !== null && now.locked_until > at) throw new ChangedMeanwhile('locked')
}

async function look(pool: Pool, tenant: string, email: string): Promise<{ known: boolean; user: SignInRow | null }> {
  return withTenant(
    pool,
    tenant,
    async (client) => {
      const known = await isTenant(client, tenant)
      return { known, user: known ? await findForSignIn(client, tenant, email) : null }
    },
    { readOnly: true },
  )
}
