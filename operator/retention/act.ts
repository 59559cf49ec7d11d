import { GROUP, VERSION, type RetentionPolicyStatus } from '#core/rule/model.ts'
import type { NamedObjects } from '#operator/kubernetes/named-objects.ts'
import type { Clock } from '#operator/clock.ts'
import { apiPath } from '#operator/kubernetes/client.ts'
import type { EventRecorder } from '#operator/kubernetes/events.ts'
import { objectKey } from '#operator/kubernetes/object.ts'
import type { StatusWriter } from '#operator/kubernetes/status-writer.ts'
import {
  decidePolicies,
  decidePolicyStatus,
  MAX_PUBLISHED_BYTES,
  publishedText,
  type PolicyDecision,
  type Publishing,
} from './decide.ts'
import { gatherPolicies, type PolicyView } from './gather.ts'

export const POLICIES_CONFIG_MAP = 'signet-retention-policies'
const KEY = 'policies.json'

export type RetentionDeps = {
  readonly operatorNamespace: string
  readonly policies: () => Iterable<PolicyView>
  readonly objects: NamedObjects
  readonly statuses: StatusWriter<RetentionPolicyStatus>
  readonly events: EventRecorder
  readonly clock: Clock
  /** Asked right before the ConfigMap is written. */
  readonly holds: () => boolean
}

/**
 * One pass: all policies are judged together, the accepted ones published for the ledger, and every status says what became of it, also
 * when publishing failed. @throws what publishing failed with, after the statuses are set
 */
export async function reconcileRetention(deps: RetentionDeps): Promise<void> {
  const decisions = decidePolicies(gatherPolicies(deps.policies()), deps.operatorNamespace)
  let publishing: Publishing = { state: 'published' }
  let failure: unknown
  try {
    publishing = await publish(deps, decisions)
  } catch (error) {
    failure = error
    publishing = { state: 'failed', message: error instanceof Error ? error.message : String(error) }
  }
  for (const decision of decisions) writeStatus(deps, decision, publishing)
  if (failure !== undefined) throw failure
}

async function publish({ objects, holds }: RetentionDeps, decisions: readonly PolicyDecision[]): Promise<Publishing> {
  const text = publishedText(decisions)
  if (Buffer.byteLength(text) > MAX_PUBLISHED_BYTES) {
    return {
      state: 'failed',
      message: `All policies together are larger than ${MAX_PUBLISHED_BYTES} bytes; the former ones stay`,
    }
  }
  const before = await objects.readConfigMap(POLICIES_CONFIG_MAP)
  if (before?.data?.[KEY] !== text && holds()) {
    await objects.writeConfigMap(POLICIES_CONFIG_MAP, before, { [KEY]: text })
  }
  return { state: 'published' }
}

function writeStatus(deps: RetentionDeps, decision: PolicyDecision, publishing: Publishing): void {
  const { metadata, status } = decision.policy
  const { name, namespace, uid } = metadata
  const path = apiPath(`apis/${GROUP}/${VERSION}`, 'namespaces', namespace, 'retentionpolicies', name)
  const next = decidePolicyStatus(decision, publishing, deps.clock.wallMs())
  deps.statuses.set({ key: objectKey(metadata), path, uid }, next, status)
  const overlap = decision.conditions.find(({ type }) => type === 'Overlapping')
  const before = status?.conditions?.find(({ type }) => type === 'Overlapping')
  if (overlap?.reason !== 'Conflict' || before?.message === overlap.message) return
  deps.events.record({
    regarding: {
      apiVersion: `${GROUP}/${VERSION}`,
      kind: 'RetentionPolicy',
      namespace,
      name,
      ...(uid === undefined ? {} : { uid }),
    },
    type: 'Warning',
    reason: 'Conflict',
    action: 'Judge',
    note: overlap.message,
  })
}
