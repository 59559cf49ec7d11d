import type { PublishedPolicy } from './published.ts'
import { REGULATION_PERIODS } from './regulation-periods.ts'

/** What no policy fits is kept for ever, and so is what the ledger records about keeping. */
export const DEFAULT_RETENTION_CLASS = 'default'
/** No policy makes records leave the database sooner. */
export const MIN_HOT_DAYS = 30

/** What of a record decides for how long it is kept. `frameworks`: codes of regulations. */
export type RecordTraits = {
  readonly tenant: string
  readonly region: string | null
  readonly data_domain: string | null
  readonly frameworks: readonly string[]
}

/** Days from the end of the month of writing. `never`: not removed even then. */
export type RetentionPeriod = {
  readonly hotDays: number
  readonly archiveDays: number
  readonly never: boolean
  readonly keepSummary: boolean
}

/** Whether a policy selects records of this kind. */
export function selects({ selector }: Pick<PublishedPolicy, 'selector'>, traits: RecordTraits): boolean {
  const { tenants, data_domains: domains, regions, frameworks } = selector
  return (
    (tenants === undefined || tenants.includes(traits.tenant)) &&
    (domains === undefined || (traits.data_domain !== null && domains.includes(traits.data_domain))) &&
    (regions === undefined || (traits.region !== null && regions.includes(traits.region))) &&
    (frameworks === undefined || frameworks.some((code) => traits.frameworks.includes(code)))
  )
}

/**
 * How long a record is kept: of all policies that select it the longest times, what any of them keeps, and no less than the regulations
 * that apply to it ask for. Whatever the order of the policies. Null: none selects it.
 */
export function periodOf(policies: readonly PublishedPolicy[], traits: RecordTraits): RetentionPeriod | null {
  const fitting = policies.filter((policy) => selects(policy, traits))
  if (fitting.length === 0) return null
  const period = {
    hotDays: Math.max(MIN_HOT_DAYS, ...fitting.map((policy) => policy.hot_days)),
    archiveDays: Math.max(MIN_HOT_DAYS, ...fitting.map((policy) => policy.archive_days)),
    never: fitting.some((policy) => policy.purge.mode === 'never'),
    keepSummary: fitting.some((policy) => policy.purge.keep_summary),
  }
  return withMinimums(period, traits.frameworks)
}

/** The period made no shorter than the regulations ask for. A code that is not known asks for nothing. */
export function withMinimums(period: RetentionPeriod, frameworks: readonly string[]): RetentionPeriod {
  let { hotDays, archiveDays } = period
  for (const code of frameworks) {
    const minimum = Object.hasOwn(REGULATION_PERIODS, code) ? REGULATION_PERIODS[code] : undefined
    if (minimum === undefined) continue
    hotDays = Math.max(hotDays, minimum.hotDays)
    archiveDays = Math.max(archiveDays, minimum.keepDays)
  }
  return { ...period, hotDays, archiveDays: Math.max(hotDays, archiveDays) }
}

/** The name of the class of this period: `h90_a2562`, as the wall's `retention_class_name`. */
export function className({ hotDays, archiveDays, never, keepSummary }: RetentionPeriod): string {
  return `h${hotDays}_a${archiveDays}${never ? '_never' : ''}${keepSummary ? '' : '_bare'}`
}

/** The period that a class name says; null for `default` and for what is no class. */
export function periodOfClass(name: string): RetentionPeriod | null {
  const found = /^h([1-9]\d{0,7})_a([1-9]\d{0,7})(_never)?(_bare)?$/.exec(name)
  if (found === null) return null
  const [, hot, archive, never, bare] = found
  return {
    hotDays: Number(hot),
    archiveDays: Number(archive),
    never: never !== undefined,
    keepSummary: bare === undefined,
  }
}

/**
 * Of the classes that there are, one that keeps no less than `wanted` and as little more as possible; `default` where there is none. For
 * when there can be no further class: keeping longer is a cost, keeping shorter a loss.
 */
export function coveringClass(existing: Iterable<string>, wanted: RetentionPeriod): string {
  let best: { name: string; period: RetentionPeriod } | null = null
  for (const name of existing) {
    const period = periodOfClass(name)
    if (period === null || !covers(period, wanted)) continue
    if (best === null || isShorter(period, best.period) || (!isShorter(best.period, period) && name < best.name))
      best = { name, period }
  }
  return best?.name ?? DEFAULT_RETENTION_CLASS
}

function covers(period: RetentionPeriod, wanted: RetentionPeriod): boolean {
  return (
    period.hotDays >= wanted.hotDays &&
    period.archiveDays >= wanted.archiveDays &&
    (period.never || !wanted.never) &&
    (period.keepSummary || !wanted.keepSummary)
  )
}

function isShorter(a: RetentionPeriod, b: RetentionPeriod): boolean {
  if (a.never !== b.never) return b.never
  return a.hotDays !== b.hotDays ? a.hotDays < b.hotDays : a.archiveDays < b.archiveDays
}
