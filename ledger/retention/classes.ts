import {
  className,
  coveringClass,
  DEFAULT_RETENTION_CLASS,
  periodOf,
  type RecordTraits,
  type RetentionPeriod,
} from '#core/retention/period.ts'
import type { PublishedPolicy } from '#core/retention/published.ts'
import { query, type Pool } from '#runtime/postgres/transaction.ts'

/** Says of which class a record becomes when it is written. */
export type RetentionClasses = {
  /** Makes the classes that records of these kinds need and that are not there yet. Never throws: what cannot be made is covered. */
  prepare(traits: Iterable<RecordTraits>): Promise<void>
  /** The class of a record: one that exists, and keeps it for no less than it must be kept. `default`: for ever. */
  readonly retentionClassOf: (traits: RecordTraits) => string
}

export type RetentionClassesDeps = {
  readonly wall: Pool
  /** The policies as they are now; null while they are not known: then everything is kept. A new array for new policies. */
  readonly policies: () => readonly PublishedPolicy[] | null
  readonly clock: () => Date
  /** A class could not be made: records get one that keeps longer. */
  readonly onUncovered: (wanted: string, error: unknown) => void
}

/** Kinds of records whose class is remembered. */
const MAX_KINDS = 10_000
const RETRY_MS = 60_000

export function createRetentionClasses(deps: RetentionClassesDeps): RetentionClasses {
  const existing = new Set<string>()
  const failedAt = new Map<string, number>()
  let remembered = new Map<string, RetentionPeriod | null>()
  let rememberedFor: readonly PublishedPolicy[] | null = null

  function wanted(traits: RecordTraits): RetentionPeriod | null {
    const policies = deps.policies()
    if (policies === null || policies.length === 0) return null
    if (policies !== rememberedFor || remembered.size >= MAX_KINDS) {
      remembered = new Map()
      rememberedFor = policies
    }
    const kind = JSON.stringify([traits.tenant, traits.region, traits.data_domain, traits.frameworks])
    let period = remembered.get(kind)
    if (period === undefined) {
      period = periodOf(policies, traits)
      remembered.set(kind, period)
    }
    return period
  }

  async function make(name: string, { hotDays, archiveDays, never, keepSummary }: RetentionPeriod): Promise<void> {
    const now = deps.clock().getTime()
    const failed = failedAt.get(name)
    if (failed !== undefined && now - failed >= 0 && now - failed < RETRY_MS) return
    try {
      const values = [hotDays, archiveDays, never, keepSummary]
      await query(deps.wall, 'SELECT signet.ensure_retention_class($1, $2, $3, $4)', values)
      existing.add(name)
      failedAt.delete(name)
    } catch (error) {
      if (failedAt.size >= MAX_KINDS) failedAt.clear()
      failedAt.set(name, now)
      // What there is may cover it, also what other processes have made.
      await readClasses(deps.wall).then(
        (names) => names.forEach((each) => existing.add(each)),
        () => undefined,
      )
      deps.onUncovered(name, error)
    }
  }

  return {
    async prepare(traits) {
      if ((deps.policies()?.length ?? 0) === 0) return
      const missing = new Map<string, RetentionPeriod>()
      for (const each of traits) {
        const period = wanted(each)
        if (period === null) continue
        const name = className(period)
        if (!existing.has(name)) missing.set(name, period)
      }
      for (const [name, period] of missing) await make(name, period)
    },
    retentionClassOf(traits) {
      const period = wanted(traits)
      if (period === null) return DEFAULT_RETENTION_CLASS
      const name = className(period)
      return existing.has(name) ? name : coveringClass(existing, period)
    },
  }
}

/** Names of the classes that the wall has. */
export async function readClasses(wall: Pool): Promise<string[]> {
  const rows = await query<{ name: string }>(wall, 'SELECT name FROM signet.retention_classes ORDER BY name')
  return rows.map(({ name }) => name)
}
