import { extentOf, formatPermission } from '../access/permission.ts'
import { SHIPPED_ROLES } from '../access/shipped-roles.ts'
import type { AccessFacts } from '../store/facts.ts'
import type { CheckName } from './check-names.ts'

/** What was found out, in one look. */
export type Facts = {
  readonly access: AccessFacts
  /** What the ledger says of the tenant's chain; null where it could not be asked. */
  readonly chain: {
    readonly ok: boolean
    readonly from: number
    readonly to: number
    readonly fault: string | null
  } | null
  readonly ledgerUrl: string
}
/** `unknown`: it could not be seen, which is neither good nor bad. */
export type CheckResult = { readonly result: 'met' | 'not_met' | 'unknown'; readonly detail: string }

const UNRECORDED_PATIENCE_MS = 5 * 60 * 1000
const STALE_DAYS = 90
const MAX_TOKEN_DAYS = 367

/** Every check: pure, from facts that were seen. None claims more than it says in its detail. */
export const CHECKS: Readonly<Record<CheckName, (facts: Facts) => CheckResult>> = {
  'roles-in-force'({ access }) {
    const open = access.tables.filter(({ forced }) => !forced).map(({ name }) => name)
    if (open.length > 0) return notMet(`row-level security is not in force on ${open.join(', ')}`)
    const changed = SHIPPED_ROLES.filter(({ name, permissions }) => {
      const there = new Set(access.roles.find((role) => role.name === name)?.permissions.map(formatPermission))
      return (
        there.size !== permissions.length || permissions.some((permission) => !there.has(formatPermission(permission)))
      )
    }).map(({ name }) => name)
    if (changed.length > 0)
      return notMet(`shipped roles are missing or are not what the release says: ${changed.join(', ')}`)
    return met(
      `${access.tables.length} tables under forced row-level security; ${access.roles.length} roles, ${access.bindings} bindings`,
    )
  },
  'accounts-in-use'({ access }) {
    const stale = access.users.filter(({ active, idleDays }) => active && idleDays > STALE_DAYS).length
    return stale === 0
      ? met(`each of ${activeUsers(access)} active users was made, or signed in, within ${STALE_DAYS} days`)
      : notMet(`${stale} active users have not signed in for ${STALE_DAYS} days`)
  },
  'administrators-few'({ access }) {
    const admins = access.users.filter(
      ({ active, permissions }) => active && extentOf(permissions, null, 'write', 'roles') === 'all',
    ).length
    const most = Math.max(3, Math.floor(activeUsers(access) / 10))
    return admins <= most
      ? met(`${admins} of ${activeUsers(access)} active users may change roles; ${most} at most`)
      : notMet(`${admins} of ${activeUsers(access)} active users may change roles; more than ${most}`)
  },
  'actions-recorded'({ access }) {
    const { total, oldestOpenMs } = access.actions
    if (oldestOpenMs !== null && oldestOpenMs > UNRECORDED_PATIENCE_MS)
      return notMet(`an action has waited for ${Math.floor(oldestOpenMs / 60_000)} minutes to be in the ledger`)
    return met(
      `${total} actions; none has waited for more than ${UNRECORDED_PATIENCE_MS / 60_000} minutes to be in the ledger`,
    )
  },
  'ledger-verifies'({ chain }) {
    if (chain === null) return unknown('the ledger could not be asked')
    const { ok, from, to, fault } = chain
    return ok
      ? met(`records ${from} to ${to} verify from their bytes`)
      : notMet(`the chain does not verify: ${fault ?? 'no reason given'}`)
  },
  'ledger-over-tls'({ ledgerUrl }) {
    return ledgerUrl.startsWith('https:')
      ? met('governance reaches the ledger by TLS')
      : notMet('governance reaches the ledger without TLS')
  },
  'sign-ins-guarded'({ access }) {
    const weak = access.users.filter(({ active, password }) => active && password === 'weak').length
    return weak === 0
      ? met('passwords are kept as argon2id with 19 MiB or more; five wrong ones lock an account')
      : notMet(`the passwords of ${weak} active users are kept in a weaker form`)
  },
  'mfa-in-use'({ access }) {
    const without = access.users.filter(({ active, password, mfa }) => active && password !== 'none' && !mfa).length
    return without === 0
      ? met('every active user with a password is marked as having a second factor')
      : notMet(`${without} active users with a password have no second factor`)
  },
  'tokens-expire'({ access }) {
    const { active, longestDays } = access.tokens
    return longestDays <= MAX_TOKEN_DAYS
      ? met(`${active} API tokens are in force; all of them expire within a year`)
      : notMet(`an API token is in force for ${longestDays} days`)
  },
}

function activeUsers({ users }: AccessFacts): number {
  return users.filter(({ active }) => active).length
}
const met = (detail: string): CheckResult => ({ result: 'met', detail })
const notMet = (detail: string): CheckResult => ({ result: 'not_met', detail })
const unknown = (detail: string): CheckResult => ({ result: 'unknown', detail })
