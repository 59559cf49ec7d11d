import type { StatusCondition } from '#core/rule/status.ts'

export type ConditionFacts = Pick<StatusCondition, 'type' | 'status' | 'reason' | 'message'>

/** A condition as it is written: it keeps its time of transition while its status is the same. */
export function toCondition(
  facts: ConditionFacts,
  generation: number,
  previous: readonly StatusCondition[] | undefined,
  nowMs: number,
): StatusCondition {
  const before = previous?.find(({ type }) => type === facts.type)
  return {
    type: facts.type,
    status: facts.status,
    observedGeneration: generation,
    lastTransitionTime: before?.status === facts.status ? before.lastTransitionTime : metaTime(nowMs),
    reason: facts.reason,
    message: facts.message,
  }
}

/** What conditions tell a reader, without the times: equal prints need no write. */
export function conditionsPrint(conditions: readonly StatusCondition[] | undefined): unknown[] {
  return (conditions ?? []).map(({ type, status, reason, message, observedGeneration }) => [
    type,
    status,
    reason,
    message,
    observedGeneration,
  ])
}

/** metav1.Time has whole seconds. */
function metaTime(ms: number): string {
  return new Date(ms).toISOString().replace(/\.\d{3}Z$/, 'Z')
}
