import { withTenant, type Pool } from '#runtime/postgres/transaction.ts'
import { readMonths, readTenantMonths, verdictOf, type MonthState, type MonthVerdict, type Obstacle } from './months.ts'
import { findObstacles } from './purge.ts'

/** Of one tenant, for its people: what is in the way of another's records shows as that, and no more. */
export type MonthReport = {
  readonly retention_class: string
  readonly month: string
  readonly state: MonthVerdict
  readonly hot_until: string
  readonly keep_until: string
  readonly reasons: readonly ReasonReport[]
}
export type ReasonReport = {
  readonly reason: Obstacle['reason']
  readonly whose: 'own' | 'other' | 'all'
  readonly detail: string
}

export type RetentionReports = {
  /** The months that hold records of the tenant. What is past its hot period is looked at every half minute at most: that reads the month. */
  monthsOf(tenant: string): Promise<MonthReport[]>
}

const FRESH_MS = 30_000
const MAX_REMEMBERED = 10_000

export function createRetentionReports(deps: { readonly wall: Pool; readonly clock: () => Date }): RetentionReports {
  const remembered = new Map<string, { at: number; found: Promise<Obstacle[]> }>()

  function obstaclesOf({ retentionClass, month }: MonthState): Promise<Obstacle[]> {
    const key = `${retentionClass} ${month}`
    const known = remembered.get(key)
    if (known !== undefined && performance.now() - known.at < FRESH_MS) return known.found
    if (remembered.size >= MAX_REMEMBERED) remembered.clear()
    const found = findObstacles(deps, { retentionClass, month })
    found.catch(() => remembered.delete(key))
    remembered.set(key, { at: performance.now(), found })
    return found
  }

  return {
    async monthsOf(tenant) {
      const months = await readMonths(deps.wall)
      const own = await withTenant(deps.wall, tenant, (client) => readTenantMonths(client, tenant, months), {
        readOnly: true,
      })
      const reports: MonthReport[] = []
      for (const month of own) {
        const obstacles = await obstaclesOf(month)
        reports.push({
          retention_class: month.retentionClass,
          month: month.month,
          state: verdictOf(obstacles),
          hot_until: month.hotUntil.toISOString(),
          keep_until: month.keepUntil.toISOString(),
          reasons: presentReasons(obstacles, tenant),
        })
      }
      return reports
    },
  }
}

/** A partition is shared by the tenants of a class: that another keeps it shows, who and why does not. */
export function presentReasons(obstacles: readonly Obstacle[], tenant: string): ReasonReport[] {
  const reasons = obstacles.map(({ reason, tenant: whose, detail }): ReasonReport => {
    if (whose === null) return { reason, whose: 'all', detail }
    return whose === tenant
      ? { reason, whose: 'own', detail }
      : { reason, whose: 'other', detail: 'records of another tenant in the same partition' }
  })
  const distinct = new Map(reasons.map((each) => [`${each.reason} ${each.whose} ${each.detail}`, each]))
  return [...distinct.values()]
}
