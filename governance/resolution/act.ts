import { endpointOf } from '../events/judge.ts'
import type { EventRow } from '../store/compliance.ts'
import type { Acted, Scene } from './acted.ts'
import type { BillingApi } from './billing.ts'
import { contain, resetPermissions } from './permissions.ts'
import { askBilling, syncRecords, type Billed } from './records.ts'
import type { Strategy } from './strategies.ts'

/** What was seen elsewhere, before anything is changed. */
export type Seen = Billed | { readonly kind: 'nothing' }

/** What a strategy needs to know from elsewhere, outside of any transaction. @throws SignetError CONNECTOR_FAILED */
export async function look(strategy: Strategy, event: EventRow, billing: BillingApi | null): Promise<Seen> {
  return strategy === 'billing-sync-fix' || strategy === 'auto-correction'
    ? askBilling(event, billing)
    : { kind: 'nothing' }
}

/** Does what the strategy does, in the transaction of the scene; doing it again changes nothing more. */
export async function act(strategy: Strategy, scene: Scene, seen: Seen): Promise<Acted> {
  switch (strategy) {
    case 'permission-reset':
      return resetPermissions(scene)
    case 'MAOS-action-block':
      return contain(scene)
    case 'billing-sync-fix':
    case 'auto-correction':
      return seen.kind === 'nothing'
        ? { detail: 'there is nothing to go by', evidence: {}, isDone: false }
        : syncRecords(scene, seen)
    default:
      return {
        detail: 'waits until the registered contract and the endpoint agree',
        evidence: { endpoint: endpointOf(scene.event.details) },
        isDone: null,
      }
  }
}
