import type { Catalog, Control } from './catalog.ts'
import type { CheckResult } from './checks.ts'

export const STATUSES = ['implemented', 'in_progress', 'not_started'] as const
export type Status = (typeof STATUSES)[number]

/** What somebody said of a control. */
export type Statement = {
  readonly status: Status
  readonly owner: string
  readonly note: string
  readonly evidence: readonly string[]
  readonly validUntil: Date | null
  readonly version: number
  readonly updatedBy: string
  readonly updatedAt: Date
}

/** Evidence of a control: what says something of today, and files that are out of date. */
export type EvidenceCount = { readonly fresh: number; readonly stale: number }

export type AssessedControl = {
  readonly control: Control
  readonly status: Status
  /** What the status stands on. */
  readonly basis: 'check' | 'statement' | 'check and statement' | 'nothing'
  readonly check: CheckResult | null
  readonly statement: Statement | null
  readonly evidence: EvidenceCount
  /** What was said held until a day that is over, or all of its evidence did. */
  readonly expired: boolean
}

const NO_EVIDENCE: EvidenceCount = { fresh: 0, stale: 0 }

/**
 * The status of a control. A check that is not met keeps it from being implemented, whatever anybody says; one that is met is enough only
 * where the control is fully automatic, and one that could not look decides nothing.
 */
export function assess(
  control: Control,
  check: CheckResult | null,
  statement: Statement | null,
  now: Date,
  evidence: EvidenceCount = NO_EVIDENCE,
): AssessedControl {
  const isOver = statement?.validUntil != null && statement.validUntil <= now
  const expired = statement !== null && (isOver || (evidence.stale > 0 && evidence.fresh === 0))
  const said: Status =
    statement === null
      ? 'not_started'
      : expired && statement.status === 'implemented'
        ? 'in_progress'
        : statement.status
  const seen = check?.result ?? 'unknown'
  const common = { control, check, statement, evidence, expired }
  if (control.automation === 'full' && seen !== 'unknown')
    return { ...common, status: seen === 'met' ? 'implemented' : 'not_started', basis: 'check' }
  if (seen === 'not_met')
    return {
      ...common,
      status: said === 'implemented' ? 'in_progress' : said,
      basis: statement === null ? 'check' : 'check and statement',
    }
  if (seen === 'met')
    // Something of it works, which is more than nothing.
    return {
      ...common,
      status: said === 'not_started' ? 'in_progress' : said,
      basis: statement === null ? 'check' : 'check and statement',
    }
  return { ...common, status: said, basis: statement === null ? 'nothing' : 'statement' }
}

export type Score = {
  readonly implemented: number
  readonly in_progress: number
  readonly not_started: number
  readonly total: number
  readonly percent: number
}

/** The share of controls that are implemented, in percent, rounded down: a hundred is all of them. */
export function scoreOf(controls: readonly AssessedControl[]): Score {
  const count = (status: Status): number => controls.filter((control) => control.status === status).length
  const implemented = count('implemented')
  const total = controls.length
  return {
    implemented,
    in_progress: count('in_progress'),
    not_started: count('not_started'),
    total,
    percent: total === 0 ? 0 : Math.floor((100 * implemented) / total),
  }
}

export function assessAll(
  catalog: Catalog,
  checks: ReadonlyMap<string, CheckResult>,
  statements: ReadonlyMap<string, Statement>,
  now: Date,
  evidence: ReadonlyMap<string, EvidenceCount> = new Map(),
): AssessedControl[] {
  return catalog.controls.map((control) =>
    assess(
      control,
      control.check === undefined ? null : (checks.get(control.check) ?? null),
      statements.get(control.id) ?? null,
      now,
      evidence.get(control.id),
    ),
  )
}
