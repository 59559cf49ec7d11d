import { publishPolicy, type PublishedPolicies } from '#core/retention/published.ts'
import { checkRetentionObject } from '#core/rule/check.ts'
import type { RetentionPolicySpec, RetentionPolicyStatus } from '#core/rule/model.ts'
import { conditionsPrint, toCondition, type ConditionFacts } from '#operator/kubernetes/conditions.ts'
import type { PolicyView } from './gather.ts'

export type PolicyDecision = {
  readonly policy: PolicyView
  readonly accepted: boolean
  readonly conditions: readonly ConditionFacts[]
}

export type Publishing = { readonly state: 'published' } | { readonly state: 'failed'; readonly message: string }

/** A ConfigMap holds 1 MiB. */
export const MAX_PUBLISHED_BYTES = 900 * 1024
const MAX_NAMED = 5

/** Judges all policies together. `policies` in the order of their names. */
export function decidePolicies(policies: readonly PolicyView[], operatorNamespace: string): PolicyDecision[] {
  const faults = policies.map((policy) => faultOf(policy, operatorNamespace))
  const valid = policies.filter((_, index) => faults[index] === null)
  const meetings = findMeetings(valid)
  return policies.map((policy, index) => {
    const fault = faults[index] ?? null
    if (fault !== null) {
      const accepted = { type: 'Accepted', status: 'False' as const, reason: fault.reason, message: fault.message }
      return { policy, accepted: false, conditions: [accepted] }
    }
    const accepted = { type: 'Accepted', status: 'True' as const, reason: 'Valid', message: 'The policy is valid' }
    return { policy, accepted: true, conditions: [accepted, overlapping(meetings.get(policy))] }
  })
}

/** The document for the ledger: the same policies give the same text. */
export function publishedText(decisions: readonly PolicyDecision[]): string {
  const policies = decisions
    .filter(({ accepted }) => accepted)
    .map(({ policy: { metadata, spec } }) =>
      publishPolicy({ name: metadata.name, uid: metadata.uid ?? '', generation: metadata.generation ?? 0 }, spec),
    )
  const document: PublishedPolicies = { version: 1, policies }
  return `${JSON.stringify(document, null, 2)}\n`
}

export function decidePolicyStatus(
  decision: PolicyDecision,
  publishing: Publishing,
  nowMs: number,
): RetentionPolicyStatus {
  const { policy, accepted } = decision
  const generation = policy.metadata.generation ?? 0
  const conditions = [...decision.conditions, publishedCondition(accepted, publishing)]
  return {
    observedGeneration: generation,
    conditions: conditions.map((facts) => toCondition(facts, generation, policy.status?.conditions, nowMs)),
  }
}

export function policyPrint(status: RetentionPolicyStatus): string {
  return JSON.stringify([status.observedGeneration, conditionsPrint(status.conditions)])
}

function faultOf(policy: PolicyView, operatorNamespace: string): { reason: string; message: string } | null {
  const { name, namespace } = policy.metadata
  if (namespace !== operatorNamespace) {
    // How long evidence is kept is the platform's to say: a policy of a team's own could hold, or let go, others' records.
    return { reason: 'WrongNamespace', message: `Retention policies belong in namespace ${operatorNamespace}` }
  }
  const [fault] = checkRetentionObject({ name, spec: policy.spec })
  return fault === undefined
    ? null
    : { reason: 'InvalidSpec', message: `${fault.path} ${fault.message}`.slice(0, 2_000) }
}

type Meeting = { readonly other: PolicyView; readonly contradiction: string | null }

function findMeetings(policies: readonly PolicyView[]): Map<PolicyView, Meeting[]> {
  const meetings = new Map<PolicyView, Meeting[]>()
  const add = (policy: PolicyView, meeting: Meeting): void => {
    const known = meetings.get(policy) ?? []
    const isContradiction = meeting.contradiction !== null
    const alike = known.filter(({ contradiction }) => (contradiction !== null) === isContradiction)
    // More than can be told is of no use, and would grow with the square.
    if (alike.length <= MAX_NAMED) known.push(meeting)
    meetings.set(policy, known)
  }
  const selectors = policies.map(({ spec }) => selectorSets(spec))
  for (const [i, a] of policies.entries()) {
    for (let j = i + 1; j < policies.length; j++) {
      if (!overlap(selectors[i]!, selectors[j]!)) continue
      const b = policies[j]!
      const contradiction = contradictionOf(a.spec, b.spec)
      add(a, { other: b, contradiction })
      add(b, { other: a, contradiction })
    }
  }
  return meetings
}

type SelectorSets = readonly (ReadonlySet<string> | null)[]

function selectorSets({ selector }: RetentionPolicySpec): SelectorSets {
  return [selector?.tenants, selector?.dataDomains, selector?.regions].map((values) =>
    values === undefined ? null : new Set(values),
  )
}

/** Whether a record can fit both. By frameworks it always can: a record may name several. */
function overlap(a: SelectorSets, b: SelectorSets): boolean {
  return a.every((values, index) => {
    const others = b[index] ?? null
    if (values === null || others === null) return true
    for (const value of values) if (others.has(value)) return true
    return false
  })
}

/** What two policies for the same record cannot both mean; different times can: the longest win. */
function contradictionOf(a: RetentionPolicySpec, b: RetentionPolicySpec): string | null {
  if ((a.purge?.mode ?? 'whenArchived') !== (b.purge?.mode ?? 'whenArchived')) return 'purge.mode'
  if (a.erasure !== undefined && b.erasure !== undefined && a.erasure.allowed !== b.erasure.allowed) {
    return 'erasure.allowed'
  }
  return null
}

function overlapping(meetings: readonly Meeting[] = []): ConditionFacts {
  const type = 'Overlapping'
  const contradictions = meetings.filter(({ contradiction }) => contradiction !== null)
  if (contradictions.length > 0) {
    const named = names(contradictions.map(({ other, contradiction }) => `${other.metadata.name} (${contradiction})`))
    return { type, status: 'True', reason: 'Conflict', message: `Contradicts ${named}; the stricter one is followed` }
  }
  if (meetings.length > 0) {
    const named = names(meetings.map(({ other }) => other.metadata.name))
    const message = `May select the same records as ${named}; the longest times win`
    return { type, status: 'True', reason: 'Overlaps', message }
  }
  return { type, status: 'False', reason: 'NoOverlap', message: 'No other policy selects the same records' }
}

function names(all: readonly string[]): string {
  const shown = all.slice(0, MAX_NAMED).join(', ')
  return all.length > MAX_NAMED ? `${shown} and others` : shown
}

function publishedCondition(accepted: boolean, publishing: Publishing): ConditionFacts {
  const type = 'Published'
  if (!accepted) return { type, status: 'False', reason: 'NotAccepted', message: 'The policy is not in force' }
  return publishing.state === 'published'
    ? { type, status: 'True', reason: 'Published', message: 'The ledger can read the policy' }
    : { type, status: 'False', reason: 'PublicationFailed', message: publishing.message.slice(0, 2_000) }
}
