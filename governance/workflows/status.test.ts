import { describe, expect, it } from 'vitest'
import { legalTransitions, WORKFLOW_STATUSES, type WorkflowStatus } from './status.ts'

describe('legalTransitions', () => {
  it.each<{ from: WorkflowStatus; want: WorkflowStatus[] }>([
    { from: 'draft', want: ['in_review', 'cancelled'] },
    { from: 'in_review', want: ['draft', 'approved', 'rejected', 'cancelled'] },
    { from: 'approved', want: ['completed', 'revoked'] },
    { from: 'rejected', want: ['draft', 'cancelled'] },
    { from: 'completed', want: ['revoked'] },
    { from: 'revoked', want: [] },
    { from: 'cancelled', want: [] },
  ])('from $from', ({ from, want }) => expect(legalTransitions(from)).toEqual(want))

  it('approves nothing but what is in review', () => {
    const before = WORKFLOW_STATUSES.filter((from) => legalTransitions(from).includes('approved'))
    expect(before).toEqual(['in_review'])
  })
})
