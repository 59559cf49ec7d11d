import { createPool } from '#runtime/postgres/transaction.ts'
import { createRevocationGuard, type RevocationGuard } from './guard.ts'
import { createRevocationLookup, type RevocationLookup } from './lookup.ts'
import { findStanding } from './store.ts'

/** Longer than a healthy database takes; short enough that who is known hardly waits for a sick one. */
const STATEMENT_TIMEOUT_MS = 1_000

/** Who is revoked, asked of the work database over connections of its own: no call waits for what else is done there. */
export function startRevocation(options: {
  readonly url: string
  readonly applicationName: string
  readonly clock: () => Date
  readonly onIdleError: (error: Error) => void
}): RevocationGuard & Pick<RevocationLookup, 'forget'> & { close(): Promise<void> } {
  const { clock, ...connection } = options
  const pool = createPool({ ...connection, size: 2, statementTimeoutMs: STATEMENT_TIMEOUT_MS })
  const lookup = createRevocationLookup({
    find: (targets) => findStanding(pool, targets),
    now: () => performance.now(),
  })
  return { ...createRevocationGuard(lookup, clock), forget: lookup.forget, close: () => pool.end() }
}
