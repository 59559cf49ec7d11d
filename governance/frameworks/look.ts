import { withTenant, type Pool } from '#runtime/postgres/transaction.ts'
import { findAccessFacts } from '../store/facts.ts'
import { CHECK_NAMES } from './check-names.ts'
import { CHECKS, type CheckResult, type Facts } from './checks.ts'

export type LookDeps = {
  readonly pool: Pool
  /** What the ledger answers to a GET, for a tenant. */
  readonly ledger: { readonly url: string; readonly read: (path: string, tenant: string) => Promise<unknown> }
  readonly nowMs: () => number
}
export type Look = { readonly checkedAt: Date; readonly results: ReadonlyMap<string, CheckResult> }

/** Records that are verified anew for a check: those that came last. The ledger's own verifier goes through all of them. */
const VERIFIED = 2_000
const FRESH_MS = 30_000
const MAX_TENANTS = 1_000

/** Runs all checks of a tenant, at most once in half a minute whoever asks. */
export function createLook({ pool, ledger, nowMs }: LookDeps): (tenant: string) => Promise<Look> {
  const latest = new Map<string, { readonly atMs: number; readonly look: Promise<Look> }>()
  return (tenant) => {
    const known = latest.get(tenant)
    if (known !== undefined && nowMs() - known.atMs < FRESH_MS) return known.look
    const look = run(pool, ledger, tenant, nowMs())
    latest.delete(tenant)
    const [oldest] = latest.keys()
    if (latest.size >= MAX_TENANTS && oldest !== undefined) latest.delete(oldest)
    latest.set(tenant, { atMs: nowMs(), look })
    // What failed is tried again by the next who asks.
    look.catch(() => latest.delete(tenant))
    return look
  }
}

async function run(pool: Pool, ledger: LookDeps['ledger'], tenant: string, atMs: number): Promise<Look> {
  const access = await withTenant(pool, tenant, (client) => findAccessFacts(client, tenant), { readOnly: true })
  const facts: Facts = { access, chain: await chainOf(ledger, tenant), ledgerUrl: ledger.url }
  return { checkedAt: new Date(atMs), results: new Map(CHECK_NAMES.map((name) => [name, CHECKS[name](facts)])) }
}

/** Null where the ledger does not answer, or not as expected: then nothing is known. */
async function chainOf({ read }: LookDeps['ledger'], tenant: string): Promise<Facts['chain']> {
  try {
    const page = (await read('/api/audit/logs?limit=1', tenant)) as { items?: { seq?: unknown }[] }
    const to = page.items?.[0]?.seq ?? 0
    if (typeof to !== 'number') return null
    const from = Math.max(1, to - VERIFIED + 1)
    const verdict = (await read(`/api/audit/verify?from_seq=${from}`, tenant)) as {
      ok?: unknown
      first_bad?: { fault?: unknown }
    }
    if (typeof verdict.ok !== 'boolean') return null
    const fault = verdict.first_bad?.fault
    return { ok: verdict.ok, from, to, fault: typeof fault === 'string' ? fault : null }
  } catch {
    return null
  }
}
