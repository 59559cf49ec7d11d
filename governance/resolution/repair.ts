import { SignetError } from '#core/error/signet-error.ts'
import type { JsonObject } from '#core/json/value.ts'
import { withTenant, type Client, type Pool } from '#runtime/postgres/transaction.ts'
import { endpointOf, gatherReference, judgeEvent, textOf, type EventRules } from '../events/judge.ts'
import type { Recheck } from '../events/recheck.ts'
import { liftBlocksOf } from '../store/blocks.ts'
import { findReference, type EventRow, type ViolationRow } from '../store/compliance.ts'
import {
  beginSystemWorkflow,
  cancelSystemWorkflow,
  countSystemWorkflows,
  findSystemWorkflow,
} from '../store/system-workflows.ts'
import { insertTask } from '../store/workflows.ts'
import { ACTOR, type Acted, type Scene } from './acted.ts'
import { block, unblockable } from './blocks.ts'
import type { EndpointObserver, Observation } from './endpoint.ts'

export const ENDPOINT_RULE = 'api_endpoint_integrity'

/** How the endpoint of an event answers now. */
export type Observed =
  | { readonly kind: 'observed'; readonly observation: Observation }
  | { readonly kind: 'unobserved'; readonly why: string }

export type ObserveDeps = { readonly pool: Pool; readonly observer: EndpointObserver }

/** Of those that Signet began, open at once: whoever may report events can make Signet begin some. */
const MAX_REPAIRS = 200

/** Looks at the endpoint of an event itself, where its contract says how. Never throws because of the endpoint. */
export async function observeEndpoint(
  { pool, observer }: ObserveDeps,
  tenant: string,
  event: EventRow,
): Promise<Observed> {
  const endpoint = endpointOf(event.details)
  const contract = await withTenant(
    pool,
    tenant,
    (client) => findReference(client, tenant, 'api_contract', endpoint.slice(0, 300)),
    { readOnly: true },
  )
  if (contract === null) return { kind: 'unobserved', why: `${endpoint} is not registered` }
  if (event.details['method'] !== 'GET')
    return { kind: 'unobserved', why: 'only GET is asked without asking for effects' }
  const { observe_url: url } = contract.value
  if (typeof url !== 'string') return { kind: 'unobserved', why: 'its contract has no observe_url' }
  try {
    return { kind: 'observed', observation: await observer.observe(tenant, url) }
  } catch (error) {
    if (error instanceof SignetError) return { kind: 'unobserved', why: error.message }
    throw error
  }
}

/**
 * What the rule says of how an endpoint answers now, by its contract as it is in the transaction of `client`; null: it answers as registered.
 * @throws SignetError EVALUATION_LIMIT, OVERLOADED, RULE_INVALID
 */
async function differenceOf(
  client: Client,
  tenant: string,
  { event, observation, now }: { readonly event: EventRow; readonly observation: Observation; readonly now: Date },
  eventRules: EventRules,
): Promise<string | null> {
  const { status, fields } = observation
  const details: JsonObject = {
    method: textOf(event.details['method']),
    route: textOf(event.details['route']),
    status,
    fields: [...fields],
  }
  const seen: EventRow = { ...event, source: 'api', event_type: 'api_response', details, created_at: now }
  const found = await judgeEvent(eventRules, seen, await gatherReference(client, tenant, seen, eventRules))
  const [first] = found.filter(({ rule }) => rule === ENDPOINT_RULE)
  return first === undefined ? null : first.summary
}

/** The same as `recheck`, by how the endpoint answers now. */
export async function recheckEndpoint(
  client: Client,
  tenant: string,
  seen: Parameters<typeof differenceOf>[2],
  eventRules: EventRules,
): Promise<Recheck> {
  const difference = await differenceOf(client, tenant, seen, eventRules)
  return difference === null
    ? { holds: false, detail: 'the endpoint answers as registered' }
    : { holds: true, detail: difference }
}

/**
 * An endpoint that answers otherwise than registered is work for people: a workflow with the difference as its task, and, where the tenant says
 * so, nothing of it leaves the proxies meanwhile. It is over once the endpoint was seen to answer as registered, whatever anybody reports.
 */
export async function repair(scene: Scene, observed: Observed, eventRules: EventRules): Promise<Acted> {
  const { client, tenant, violation, event, dry, now } = scene
  const endpoint = endpointOf(event.details)
  const name = `Repair: ${lineOf(endpoint)}`.slice(0, 200)
  let difference = violation.summary
  let evidence: JsonObject = { endpoint, unobserved: observed.kind === 'unobserved' ? observed.why : null }
  if (observed.kind === 'observed') {
    const { observation } = observed
    const found = await differenceOf(client, tenant, { event, observation, now }, eventRules)
    evidence = { endpoint, status: observation.status, fields: observation.fields.slice(0, 100) }
    if (found === null) return dry ? { ...repaired(endpoint, evidence), isDone: false } : end(scene, name, evidence)
    difference = found
  }
  if (dry) return { detail: `would begin «${name}»: ${difference}`, evidence, isDone: false }
  const begun = await begin(scene, name, difference)
  const held = await hold(scene)
  const said = [
    begun === null
      ? 'there are as many repairs as there may be'
      : begun.isNew
        ? `began «${name}»`
        : `«${name}» is open`,
    held.said,
    observed.kind === 'unobserved' ? observed.why : difference,
  ].filter((part) => part !== null)
  const undo = {
    ...(begun?.isNew === true ? { workflows: [begun.id] } : {}),
    ...(held.added === null ? {} : { blocks: [held.added] }),
  }
  return {
    detail: said.join('; ').slice(0, 1_000),
    evidence: { ...evidence, workflow: begun?.id ?? null, block: held.id },
    isDone: 'waiting',
    changesProxies: held.added !== null || held.lifted,
    ...(Object.keys(undo).length === 0 ? {} : { undo }),
  }
}

function repaired(endpoint: string, evidence: JsonObject): Acted {
  return { detail: `${endpoint} was looked at, and answers as registered`, evidence, isDone: true }
}

async function end({ client, tenant, violation, event, newId, now }: Scene, name: string, evidence: JsonObject) {
  const comment = 'the endpoint answers as registered'
  const lifted = await liftBlocksOf(client, tenant, violation.id, { by: ACTOR, comment, now })
  const workflow = await findSystemWorkflow(client, tenant, name, true)
  if (workflow !== null) await cancelSystemWorkflow(client, tenant, workflow.id, { id: newId(), by: ACTOR, comment })
  return { ...repaired(endpointOf(event.details), evidence), changesProxies: lifted.length > 0 }
}

/** Null: there are as many as there may be. */
async function begin(
  { client, tenant, newId }: Scene,
  name: string,
  difference: string,
): Promise<{ readonly id: string; readonly isNew: boolean } | null> {
  const open = await findSystemWorkflow(client, tenant, name, true)
  if (open !== null) return { id: open.id, isNew: false }
  if ((await countSystemWorkflows(client, tenant)) >= MAX_REPAIRS) return null
  const id = newId()
  const description = `${difference}\n\nMend the endpoint, or register what it answers now.`
  const made = { id, kind: 'review', regulation: 'soc2', name, description, requested_by: ACTOR } as const
  await beginSystemWorkflow(client, tenant, { ...made, policy_id: null, policy_version: null }, newId())
  const title = lineOf(difference).slice(0, 300)
  await insertTask(client, tenant, { id: newId(), workflow_id: id, title, assigned_to: null, due_at: null })
  return { id, isNew: true }
}

type Held = {
  readonly id: string | null
  readonly added: string | null
  readonly lifted: boolean
  readonly said: string | null
}

/** Holds the endpoint back where the tenant says so and it is registered; lets it go where the tenant does not say so any more. */
async function hold({ client, tenant, violation, event, settings, newId, now }: Scene): Promise<Held> {
  const none = { id: null, added: null, lifted: false, said: null }
  if (!settings.block_endpoints) {
    const lift = { by: ACTOR, comment: 'endpoints are not held back any more', now }
    const lifted = await liftBlocksOf(client, tenant, violation.id, lift)
    return lifted.length === 0 ? none : { ...none, lifted: true, said: 'let it pass again' }
  }
  const { method, route } = event.details
  const target = { kind: 'route', value: textOf(route), method: textOf(method) } as const
  const contract = await findReference(client, tenant, 'api_contract', endpointOf(event.details).slice(0, 300))
  // What nobody registered is whatever the report says.
  const why = contract === null || !/^[A-Z]{1,32}$/.test(target.method) ? 'it is not registered' : unblockable(target)
  if (why !== null) return { ...none, said: `not held back at the proxies: ${why}` }
  const held = await block(client, tenant, target, { violationId: violation.id, newId, now })
  if (held === null) return { ...none, said: 'not held back at the proxies: there are as many blocks as there may be' }
  return {
    id: held.id,
    added: held.isNew ? held.id : null,
    lifted: false,
    said: held.isNew ? 'held it back at the proxies' : null,
  }
}

function lineOf(text: string): string {
  // oxlint-disable-next-line no-control-regex -- what a report says may hold anything
  return text.replace(/[\x00-\x1f\x7f\s]+/g, ' ').trim()
}

/** Of a violation that is about an endpoint: what is seen now, for a person who says that it is over. Null: it is about something else. */
export async function observeViolation(
  deps: ObserveDeps,
  tenant: string,
  violation: ViolationRow,
  event: EventRow,
): Promise<Observed | null> {
  return violation.rule === ENDPOINT_RULE ? observeEndpoint(deps, tenant, event) : null
}
