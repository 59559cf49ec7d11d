import { SignetError } from '#core/error/signet-error.ts'
import type { JsonObject } from '#core/json/value.ts'
import { toOutcome } from '#engine/evaluate/outcome.ts'
import { withTenant, type Pool } from '#runtime/postgres/transaction.ts'
import {
  compilePolicy,
  ruleIdOf,
  type CompiledPolicy,
  type CompilerDeps,
  type PolicySource,
} from '../policies/compile.ts'
import type { Judge, Judged } from '../rego/judge.ts'
import type { ViolationRow } from '../store/compliance.ts'
import { offendersOf, pastEvents } from '../store/history.ts'
import {
  findCompiled,
  findPolicyNamed,
  findVersion,
  insertPolicy,
  insertVersion,
  updatePolicy,
  type PolicyRow,
} from '../store/policies.ts'
import { beginSystemWorkflow, findSystemWorkflow } from '../store/system-workflows.ts'
import { ACTOR, type Acted, type Scene } from './acted.ts'
import {
  faultOf,
  HISTORY_DAYS,
  MAX_CALLERS,
  replay,
  replayInput,
  THRESHOLDS,
  tightenedName,
  tightenedRego,
  type Replay,
} from './tightened-policy.ts'

export type DraftDeps = {
  readonly pool: Pool
  readonly compiler: CompilerDeps
  readonly judge: Judge
  readonly evaluationTimeoutMs: number
  readonly newId: () => string
  readonly clock: () => Date
}

/** What there is to propose about a rule that keeps being violated. */
export type Drafted =
  | { readonly kind: 'draft'; readonly draft: Draft }
  /** The rule's tightened policy is in force and refuses this one. */
  | { readonly kind: 'in-force'; readonly policy: string; readonly version: number }
  /** A draft is in review already. */
  | { readonly kind: 'in-review'; readonly workflow: string }
  | { readonly kind: 'no-draft'; readonly why: string }

type Draft = {
  readonly policy: Pick<PolicyRow, 'id' | 'rule_id'> & { readonly name: string; readonly version: number | null }
  readonly number: number
  readonly says: PolicySource
  readonly compiled: CompiledPolicy
  readonly threshold: number
  readonly callers: readonly string[]
  readonly replay: Replay
}

const DAY_MS = 86_400_000
const MAX_EVENTS = 5_000
const MAX_VERSIONS = 1_000

/** Drafts a tightened policy and tries it on what happened; changes nothing. @throws SignetError OPA_UNAVAILABLE, RULE_INVALID, OVERLOADED */
export async function draftFor(deps: DraftDeps, tenant: string, violation: ViolationRow): Promise<Drafted> {
  const { rule, subject } = violation
  const name = tightenedName(rule)
  const since = new Date(deps.clock().getTime() - HISTORY_DAYS * DAY_MS)
  const known = await withTenant(
    deps.pool,
    tenant,
    async (client) => {
      const policy = await findPolicyNamed(client, tenant, name)
      return {
        policy,
        latest: policy === null ? null : await findVersion(client, tenant, policy.id, policy.latest),
        active: policy?.active == null ? null : await findCompiled(client, tenant, policy.id, policy.active),
        workflow: await findSystemWorkflow(client, tenant, name),
        offenders: await offendersOf(client, tenant, rule, { since, atLeast: THRESHOLDS[0], limit: MAX_CALLERS }),
        events: await pastEvents(client, tenant, rule, { since, limit: MAX_EVENTS }),
      }
    },
    { readOnly: true },
  )
  const { policy, active } = known
  if (policy?.active != null && active !== null && (await refuses(deps, tenant, active, subject)))
    return { kind: 'in-force', policy: policy.id, version: policy.active }
  if (known.workflow !== null) return { kind: 'in-review', workflow: known.workflow.id }
  if (known.offenders.length === 0)
    return { kind: 'no-draft', why: `nobody violated ${rule} ${THRESHOLDS[0]} times in ${HISTORY_DAYS} days` }
  const id = policy?.id ?? deps.newId()
  const to = { id, name, rule_id: policy?.rule_id ?? ruleIdOf(name, id), version: policy?.version ?? null }
  let why = ''
  for (const threshold of THRESHOLDS) {
    const callers = known.offenders.filter(({ violations }) => violations >= threshold).map((one) => one.subject)
    if (callers.length === 0) break
    const rego_content = tightenedRego(rule, threshold, callers)
    // What people have looked at and not put in force is not put before them again.
    if (known.latest?.rego_content === rego_content)
      return { kind: 'no-draft', why: `version ${policy?.latest} of «${name}» says the same, and is not in force` }
    const says: PolicySource = {
      rule_id: to.rule_id,
      description: `Drafted by Signet: refuses callers who violated ${rule} ${threshold} times or more in ${HISTORY_DAYS} days.`,
      rego_content,
      regulation_refs: ['SOC2'],
      severity: 'high',
      mode: 'enforce',
    }
    const compiled = await compilePolicy(deps.compiler, says)
    const replayed = await replay(known.events, (one) => refuses(deps, tenant, compiled, one))
    const fault = faultOf(replayed)
    if (fault === null) {
      const number = (policy?.latest ?? 0) + 1
      return { kind: 'draft', draft: { policy: to, number, says, compiled, threshold, callers, replay: replayed } }
    }
    why = fault
  }
  return { kind: 'no-draft', why }
}

/** Leaves the draft for people, in the transaction of the scene. It comes into force by their hands alone. */
export async function propose(scene: Scene, drafted: Drafted): Promise<Acted> {
  const { client, tenant, violation, dry, newId } = scene
  const name = tightenedName(violation.rule)
  switch (drafted.kind) {
    case 'in-force':
      return {
        detail: `version ${drafted.version} of «${name}» is in force, and refuses it`,
        evidence: { policy: drafted.policy, version: drafted.version },
        isDone: true,
      }
    case 'in-review':
      return waiting(drafted.workflow, name)
    case 'no-draft':
      return { detail: `no draft: ${drafted.why}`, evidence: {}, isDone: false }
    case 'draft':
  }
  const { policy, number, says, compiled, threshold, callers, replay: replayed } = drafted.draft
  const evidence: JsonObject = {
    policy: policy.id,
    version: number,
    threshold,
    callers: callers.slice(0, 20),
    replay: { ...replayed },
  }
  if (dry) return { detail: `would draft version ${number} of «${name}»`, evidence, isDone: false }
  // Another process, or a person, was faster: the next look finds what they made.
  const begun = await findSystemWorkflow(client, tenant, name, true)
  if (begun !== null) return waiting(begun.id, name)
  const found = await findPolicyNamed(client, tenant, name, true)
  if ((found?.version ?? null) !== policy.version || number > MAX_VERSIONS)
    return { detail: `«${name}» was changed meanwhile`, evidence: {}, isDone: false }
  if (found === null && !(await insertPolicy(client, tenant, policy)))
    return { detail: `«${name}» was made meanwhile`, evidence: {}, isDone: false }
  await insertVersion(client, tenant, {
    ...says,
    regulation_refs: [...says.regulation_refs],
    policy_id: policy.id,
    number,
    created_by: ACTOR,
    entrypoint: compiled.entrypoint,
    wasm: compiled.wasm,
    wasm_sha256: compiled.digest,
  })
  if (found !== null) await updatePolicy(client, tenant, policy.id, { name, latest: number })
  const workflow = newId()
  await beginSystemWorkflow(
    client,
    tenant,
    {
      id: workflow,
      kind: 'policy',
      regulation: 'soc2',
      name,
      description: describe(drafted.draft),
      requested_by: ACTOR,
      policy_id: policy.id,
      policy_version: number,
    },
    newId(),
  )
  return {
    detail: `drafted version ${number} of «${name}»; it waits for approval`,
    evidence: { ...evidence, workflow },
    isDone: 'waiting',
    undo: { workflows: [workflow] },
  }
}

function waiting(workflow: string, name: string): Acted {
  return { detail: `a draft of «${name}» waits for approval`, evidence: { workflow }, isDone: 'waiting' }
}

function describe({ says, callers, replay: on }: Draft): string {
  return `${says.description} Callers: ${callers.length}. Tried on ${on.events} events: it would have refused ${on.violations_refused} of ${on.violations} violations, and ${on.good_refused} of ${on.good} events that nothing was wrong with.`
}

async function refuses(
  { judge, evaluationTimeoutMs }: DraftDeps,
  tenant: string,
  { entrypoint, wasm, digest }: Judged | CompiledPolicy,
  subject: string | null,
): Promise<boolean> {
  const value = await judge.evaluate({ entrypoint, wasm, digest }, replayInput(tenant, subject), evaluationTimeoutMs)
  const outcome = toOutcome('policy', value)
  if ('undecidable' in outcome)
    throw new SignetError('RULE_INVALID', `the policy decides nothing: ${outcome.undecidable}`)
  return outcome.decision.violations.length > 0
}
