export const REMEDIATION_STATUSES = ['open', 'in_progress', 'resolved', 'closed'] as const
export type RemediationStatus = (typeof REMEDIATION_STATUSES)[number]

const LEGAL: Readonly<Record<RemediationStatus, readonly RemediationStatus[]>> = {
  open: ['in_progress', 'closed'],
  in_progress: ['open', 'resolved'],
  resolved: ['in_progress', 'closed'],
  closed: [],
}

/** Where an action may go from here; closed is final. */
export function legalTransitions(from: RemediationStatus): readonly RemediationStatus[] {
  return LEGAL[from]
}

const DAY_MS = 86_400_000
const DUE_DAYS: Readonly<Record<string, number>> = { critical: 2, high: 7, medium: 30, low: 90 }

/** By when it is to be done. */
export function dueAt(severity: string, nowMs: number): Date {
  return new Date(nowMs + (DUE_DAYS[severity] ?? 30) * DAY_MS)
}
