import type { EventRules } from '../events/judge.ts'
import type { EventRow, ViolationRow } from '../store/compliance.ts'
import type { Acted, Scene } from './acted.ts'
import type { BillingApi } from './billing.ts'
import { draftFor, propose, type DraftDeps, type Drafted } from './draft.ts'
import { contain, resetPermissions } from './permissions.ts'
import { askBilling, syncRecords, type Billed } from './records.ts'
import { observeEndpoint, repair, type ObserveDeps, type Observed } from './repair.ts'
import type { Strategy } from './strategies.ts'

/** What was seen elsewhere, before anything is changed. */
export type Seen = Billed | Drafted | Observed | { readonly kind: 'nothing' }

export type LookDeps = DraftDeps & ObserveDeps & { readonly billing: BillingApi | null }

/** What a strategy needs to know from elsewhere, outside of the transaction that it acts in. @throws SignetError why it cannot be known */
export async function look(
  strategy: Strategy,
  deps: LookDeps,
  tenant: string,
  { violation, event }: { readonly violation: ViolationRow; readonly event: EventRow },
): Promise<Seen> {
  switch (strategy) {
    case 'billing-sync-fix':
    case 'auto-correction':
      return askBilling(event, deps.billing)
    case 'DeepAgent-regenerate-policy':
      return draftFor(deps, tenant, violation)
    case 'workflow-repair':
      return observeEndpoint(deps, tenant, event)
    default:
      return { kind: 'nothing' }
  }
}

/** Does what the strategy does, in the transaction of the scene; doing it again changes nothing more. */
export async function act(strategy: Strategy, scene: Scene, seen: Seen, eventRules: EventRules): Promise<Acted> {
  switch (strategy) {
    case 'permission-reset':
      return resetPermissions(scene)
    case 'MAOS-action-block':
      return contain(scene)
    default:
  }
  switch (seen.kind) {
    case 'customer':
    case 'payment':
      return syncRecords(scene, seen)
    case 'observed':
    case 'unobserved':
      return repair(scene, seen, eventRules)
    case 'nothing':
      return { detail: 'there is nothing to go by', evidence: {}, isDone: false }
    default:
      return propose(scene, seen)
  }
}
