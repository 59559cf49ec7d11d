import { SignetError } from '#core/error/signet-error.ts'
import type { Client } from '#runtime/postgres/transaction.ts'
import { findEvent, type ViolationRow } from '../store/compliance.ts'
import { gatherReference, judgeEvent, type EventRules } from './judge.ts'

/** `holds`: the rule still finds it. `detail`: what it says now. */
export type Recheck = { readonly holds: boolean; readonly detail: string }

/**
 * Asks the rule of a violation again, with the records as they are now, in the transaction of `client`: so that nothing changes between the look and
 * what is made of it. @throws SignetError NOT_FOUND (the event), EVALUATION_LIMIT, OVERLOADED, RULE_INVALID
 */
export async function recheck(
  client: Client,
  tenant: string,
  { event_id, rule }: Pick<ViolationRow, 'event_id' | 'rule'>,
  eventRules: EventRules,
): Promise<Recheck> {
  const event = await findEvent(client, tenant, event_id)
  if (event === null) throw new SignetError('NOT_FOUND', 'there is no such event')
  const reference = await gatherReference(client, tenant, event, eventRules)
  const found = (await judgeEvent(eventRules, event, reference)).find((one) => one.rule === rule)
  return found === undefined
    ? { holds: false, detail: `${rule} finds it no more` }
    : { holds: true, detail: found.summary }
}
