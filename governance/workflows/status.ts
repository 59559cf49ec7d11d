export const WORKFLOW_STATUSES = [
  'draft',
  'in_review',
  'approved',
  'rejected',
  'completed',
  'revoked',
  'cancelled',
] as const
export type WorkflowStatus = (typeof WORKFLOW_STATUSES)[number]

const LEGAL: Readonly<Record<WorkflowStatus, readonly WorkflowStatus[]>> = {
  draft: ['in_review', 'cancelled'],
  in_review: ['draft', 'approved', 'rejected', 'cancelled'],
  approved: ['completed', 'revoked'],
  rejected: ['draft', 'cancelled'],
  completed: ['revoked'],
  revoked: [],
  cancelled: [],
}

/** Where a workflow may go from here; `revoked` and `cancelled` are final. */
export function legalTransitions(from: WorkflowStatus): readonly WorkflowStatus[] {
  return LEGAL[from]
}
