import type { FastifyInstance } from 'fastify'
import Type from 'typebox'
import { SignetError } from '#core/error/signet-error.ts'
import { SEVERITIES } from '#core/policy/decision.ts'
import { MAX_REGO_LENGTH } from '#core/rule/model.ts'
import { toOutcome } from '#engine/evaluate/outcome.ts'
import type { Client } from '#runtime/postgres/transaction.ts'
import { isSame } from '../access/principal.ts'
import type { Rights } from '../actions/runner.ts'
import type { BundlePublisher } from '../bundles/publisher.ts'
import { defineCall, found, principalOf, read, requireVersion, write, type CallDeps } from '../http/calls.ts'
import { ById, Id, Line, PageOf, PageQuery, Text, Time, Version } from '../http/schemas.ts'
import { compilePolicy, ruleIdOf, type CompilerDeps } from '../policies/compile.ts'
import type { Judge } from '../rego/judge.ts'
import { DEFAULT_LIMIT, pageOf, parseCursor } from '../store/paging.ts'
import {
  countPolicies,
  findCompiled,
  findPolicy,
  findVersion,
  formerActive,
  insertPolicy,
  insertVersion,
  listPolicies,
  listVersions,
  setActive,
  updatePolicy,
  type PolicyRow,
  type PolicyVersionRow,
} from '../store/policies.ts'
import { findPolicyWorkflow } from '../store/system-workflows.ts'
import { listApprovers } from '../store/workflows.ts'

export type PolicyRouteDeps = CallDeps & {
  readonly compiler: CompilerDeps
  readonly judge: Judge
  readonly publisher: BundlePublisher
  readonly evaluationTimeoutMs: number
}

/** Of a tenant: its bundle is compiled as a whole. */
const MAX_POLICIES = 1_000
const MAX_VERSIONS = 1_000

const Number1 = Type.Integer({ minimum: 1, maximum: MAX_VERSIONS })
const Severity = Type.Enum(SEVERITIES)
const Mode = Type.Enum(['shadow', 'enforce'])
const Refs = Type.Array(Type.String({ pattern: '^[A-Z0-9][A-Z0-9_.-]{0,63}$' }), {
  maxItems: 64,
  uniqueItems: true,
  description: 'Regulations that call for it: GDPR, SOX, PCI-DSS.',
})
const Rego = Type.String({
  minLength: 1,
  maxLength: MAX_REGO_LENGTH,
  pattern: '^[^\\x00]*$',
  description: 'Rego v1: one package with a rule `decision` (docs/policies.md).',
})
const Says = {
  description: Type.String(),
  rego_content: Type.String(),
  regulation_refs: Type.Array(Type.String()),
  severity: Severity,
  mode: Mode,
}
const Policy = Type.Object({
  id: Id,
  name: Type.String(),
  rule_id: Type.String({ description: 'What it is called in decisions, stamps and metrics.' }),
  policy_type: Type.Literal('opa_rego'),
  ...Says,
  latest_version: Type.Integer({ description: 'What the members above say.' }),
  active_version: Type.Union([Type.Integer(), Type.Null()], { description: 'In force; null: none is.' }),
  version: Type.Integer({ description: 'Of this object; for `version` of a change.' }),
  created_at: Time,
  updated_at: Time,
})
const PolicyVersion = Type.Object({ number: Type.Integer(), ...Says, created_by: Type.String(), created_at: Time })
const given = {
  description: Type.Optional(Text(2_000)),
  regulation_refs: Type.Optional(Refs),
  severity: Type.Optional(Severity),
  mode: Type.Optional(Mode),
}
const NewPolicy = Type.Object(
  { name: Line(200), policy_type: Type.Literal('opa_rego'), rego_content: Rego, ...given },
  { additionalProperties: false },
)
const PolicyChange = Type.Object(
  { name: Type.Optional(Line(200)), rego_content: Type.Optional(Rego), ...given, version: Type.Optional(Version) },
  { additionalProperties: false, minProperties: 1 },
)
const VersionQuery = Type.Object(
  {
    below: Type.Optional(
      Type.Integer({
        minimum: 1,
        maximum: MAX_VERSIONS + 1,
        description: '`number` of the last one of the page before.',
      }),
    ),
    limit: Type.Optional(Type.Integer({ minimum: 1, maximum: 100, default: 20 })),
  },
  { additionalProperties: false },
)
const Activation = Type.Object(
  { version: Type.Optional(Number1) },
  { additionalProperties: false, description: 'Which version; the latest where left out.' },
)
const Rollback = Type.Object(
  { version: Type.Optional(Number1) },
  { additionalProperties: false, description: 'Which version; the one that was in force before where left out.' },
)
const Question = Type.Object(
  { input: Type.Unknown({ description: 'What the policy reads as `input`.' }), version: Type.Optional(Number1) },
  { additionalProperties: false },
)
const Judgement = Type.Object({
  policy_id: Id,
  version: Type.Integer(),
  result: Type.Unknown({ description: 'The value of `decision`; null where it is undefined for this input.' }),
  undecidable: Type.Union([Type.String(), Type.Null()], {
    description: 'Why a proxy could not use this value as a decision; null: it could.',
  }),
})

/** Policies in Rego: written, versioned, evaluated, put in force and taken out of it. */
export function policyRoutes(app: FastifyInstance, deps: PolicyRouteDeps): void {
  const tag = 'policies'
  const url = '/api/v1/policies'
  const one = `${url}/:id`
  const resource = 'policies'

  defineCall(
    app,
    deps,
    {
      method: 'GET',
      url,
      summary: 'Policies, newest first',
      tag,
      permission: ['read', resource],
      query: PageQuery,
      answer: PageOf(Policy),
    },
    ({ query: { cursor, limit = DEFAULT_LIMIT } }, request) => {
      const after = parseCursor(cursor)
      return read(deps, request, { action: 'read', resource }, async (client, { tenant }) => {
        const rows = await listPolicies(client, tenant, { after, limit })
        return pageOf(rows, limit, (row) => presentPolicy(row, row.says))
      })
    },
  )

  defineCall(
    app,
    deps,
    {
      method: 'GET',
      url: one,
      summary: 'A policy, as its latest version has it',
      tag,
      permission: ['read', resource],
      params: ById,
      answer: Policy,
    },
    ({ params: { id } }, request) =>
      read(deps, request, { action: 'read', resource, id }, (client, { tenant }) => load(client, tenant, id)),
  )

  defineCall(
    app,
    deps,
    {
      method: 'POST',
      url,
      summary: 'Makes a policy; it is not in force yet',
      tag,
      permission: ['write', resource],
      body: NewPolicy,
      answer: Policy,
      status: 201,
    },
    async ({ body }, request) => {
      await read(deps, request, { action: 'write', resource }, async () => undefined)
      const id = deps.newId()
      const { name, rego_content, description = '', regulation_refs = [], severity = 'high', mode = 'enforce' } = body
      const says = {
        description: description === '' ? name : description,
        rego_content,
        regulation_refs,
        severity,
        mode,
      }
      const rule_id = ruleIdOf(name, id)
      const compiled = await compilePolicy(deps.compiler, { ...says, rule_id })
      return write(
        deps,
        request,
        { action: 'write', resource, id },
        logged(body),
        async (client, { tenant, principal }) => {
          if ((await countPolicies(client, tenant)) >= MAX_POLICIES)
            throw new SignetError('POLICY_LIMIT', `there are ${MAX_POLICIES} policies already, as many as there may be`)
          if (!(await insertPolicy(client, tenant, { id, name, rule_id })))
            throw new SignetError('CONFLICT', 'there is a policy of this name already')
          await insertVersion(client, tenant, versionOf(id, 1, says, compiled, principal.name))
          const result = await load(client, tenant, id)
          return { result, before: null, after: logged(result) }
        },
      )
    },
  )

  defineCall(
    app,
    deps,
    {
      method: 'PATCH',
      url: one,
      summary: 'Changes a policy: what it says becomes a new version, which is not in force yet',
      tag,
      permission: ['write', resource],
      params: ById,
      body: PolicyChange,
      answer: Policy,
    },
    async ({ params: { id }, body: { version, name, ...change } }, request) => {
      const target = { action: 'write', resource, id } as const
      const before = await read(deps, request, target, (client, { tenant }) => load(client, tenant, id))
      const says = { ...saysOf(before), ...change }
      const isNew = Object.keys(change).length > 0
      const compiled = isNew ? await compilePolicy(deps.compiler, { ...says, rule_id: before.rule_id }) : null
      return write(deps, request, target, logged({ name, ...change }), async (client, { tenant, principal }) => {
        const row = found(await findPolicy(client, tenant, id, true), 'policy')
        requireVersion(row, version)
        // What was compiled is the change on top of what was there when it was read.
        if (row.version !== before.version) throw new SignetError('CONFLICT', 'it was changed meanwhile; read it again')
        const latest = compiled === null ? row.latest : row.latest + 1
        if (latest > MAX_VERSIONS)
          throw new SignetError('POLICY_LIMIT', `a policy has ${MAX_VERSIONS} versions at most; make another policy`)
        if (compiled !== null)
          await insertVersion(client, tenant, versionOf(id, latest, says, compiled, principal.name))
        if (!(await updatePolicy(client, tenant, id, { name: name ?? row.name, latest })))
          throw new SignetError('CONFLICT', 'there is a policy of this name already')
        const result = await load(client, tenant, id)
        return { result, before: logged(before), after: logged(result) }
      })
    },
  )

  defineCall(
    app,
    deps,
    {
      method: 'GET',
      url: `${one}/versions`,
      summary: 'What a policy said and says, newest first',
      tag,
      permission: ['read', resource],
      params: ById,
      query: VersionQuery,
      answer: Type.Object({ items: Type.Array(PolicyVersion) }),
    },
    ({ params: { id }, query: { below = MAX_VERSIONS + 1, limit = 20 } }, request) =>
      read(deps, request, { action: 'read', resource, id }, async (client, { tenant }) => {
        found(await findPolicy(client, tenant, id), 'policy')
        return { items: (await listVersions(client, tenant, id, { below, limit })).map(presentVersion) }
      }),
  )

  defineCall(
    app,
    deps,
    {
      method: 'POST',
      url: `${one}/evaluate`,
      summary: 'What a policy decides for an input; nothing is changed',
      tag,
      permission: ['execute', resource],
      params: ById,
      body: Question,
      answer: Judgement,
    },
    async ({ params: { id }, body: { input, version } }, request) => {
      const { number, compiled } = await read(
        deps,
        request,
        { action: 'execute', resource, id },
        async (client, { tenant }) => {
          const row = found(await findPolicy(client, tenant, id), 'policy')
          const asked = version ?? row.latest
          return { number: asked, compiled: found(await findCompiled(client, tenant, id, asked), 'version') }
        },
      )
      const value = await deps.judge.evaluate(compiled, input, deps.evaluationTimeoutMs)
      const outcome = toOutcome('policy', value)
      return {
        policy_id: id,
        version: number,
        result: value ?? null,
        undecidable: 'undecidable' in outcome ? outcome.undecidable : null,
      }
    },
  )

  const put = {
    activate: { summary: 'Puts a version in force; proxies have it some seconds later', body: Activation },
    rollback: { summary: 'Puts the version in force that was before, or a given one', body: Rollback },
  } as const
  for (const [name, { summary, body }] of Object.entries(put)) {
    defineCall(
      app,
      deps,
      {
        method: 'POST',
        url: `${one}/${name}`,
        summary,
        tag,
        permission: ['execute', resource],
        params: ById,
        body,
        answer: Policy,
      },
      ({ params: { id }, body: { version } }, request) =>
        change(request, id, { do: name, version: version ?? null }, async (client, tenant, row) => {
          if (version !== undefined) return version
          if (name === 'activate') return row.latest
          const former = await formerActive(client, tenant, id, row.active)
          if (former === null) throw new SignetError('CONFLICT', 'no other version was in force before')
          return former
        }),
    )
  }

  defineCall(
    app,
    deps,
    {
      method: 'POST',
      url: `${one}/deactivate`,
      summary: 'Takes a policy out of force',
      tag,
      permission: ['execute', resource],
      params: ById,
      answer: Policy,
    },
    ({ params: { id } }, request) => change(request, id, { do: 'deactivate' }, async () => null),
  )

  async function change(
    request: Parameters<typeof write>[1],
    id: string,
    wanted: { do: string; version?: number | null },
    decide: (client: Client, tenant: string, row: PolicyRow) => Promise<number | null>,
  ): Promise<ReturnType<typeof presentPolicy>> {
    const result = await write(
      deps,
      request,
      { action: 'execute', resource, id },
      wanted,
      async (client, { tenant, principal }) => {
        const row = found(await findPolicy(client, tenant, id, true), 'policy')
        const number = await decide(client, tenant, row)
        if (number !== null) {
          found(await findVersion(client, tenant, id, number), 'version of this policy')
          await requireApproved(client, { tenant, principal }, id, number)
        }
        await setActive(client, tenant, id, { id: deps.newId(), number, by: principal.name })
        return {
          result: await load(client, tenant, id),
          before: { active_version: row.active },
          after: { active_version: number },
        }
      },
    )
    deps.publisher.touch(principalOf(request).tenant)
    return result
  }
}

/**
 * What Signet drafted comes into force once somebody else than who puts it there has agreed. @throws SignetError CONFLICT (it is not approved),
 * FORBIDDEN (only they have agreed)
 */
async function requireApproved(
  client: Client,
  { tenant, principal }: Pick<Rights, 'tenant' | 'principal'>,
  policyId: string,
  number: number,
): Promise<void> {
  const workflow = await findPolicyWorkflow(client, tenant, policyId, number)
  if (workflow === null) return
  if (workflow.status !== 'approved' && workflow.status !== 'completed')
    throw new SignetError(
      'CONFLICT',
      `version ${number} is a draft of Signet’s that takes an approval; its workflow ${workflow.id} is ${workflow.status}`,
    )
  const others = (await listApprovers(client, tenant, workflow.id)).filter((one) => !isSame(principal, one))
  if (others.length === 0)
    throw new SignetError(
      'FORBIDDEN',
      `${principal.name} has approved this draft: somebody else has to put it in force`,
    )
}

type SaysRow = Pick<PolicyVersionRow, 'description' | 'rego_content' | 'regulation_refs' | 'severity' | 'mode'>

async function load(client: Client, tenant: string, id: string): Promise<ReturnType<typeof presentPolicy>> {
  const row = found(await findPolicy(client, tenant, id), 'policy')
  return presentPolicy(row, found(await findVersion(client, tenant, id, row.latest), 'version'))
}

function saysOf({ description, rego_content, regulation_refs, severity, mode }: SaysRow): SaysRow {
  return { description, rego_content, regulation_refs, severity, mode }
}

function presentPolicy(row: PolicyRow, says: SaysRow) {
  const { id, name, rule_id, policy_type, latest, active, version } = row
  return {
    id,
    name,
    rule_id,
    policy_type,
    ...saysOf(says),
    latest_version: latest,
    active_version: active,
    version,
    created_at: row.created_at.toISOString(),
    updated_at: row.updated_at.toISOString(),
  }
}

function presentVersion(row: PolicyVersionRow) {
  const { number, created_by } = row
  return { number, ...saysOf(row), created_by, created_at: row.created_at.toISOString() }
}

function versionOf(
  policyId: string,
  number: number,
  says: SaysRow,
  compiled: { entrypoint: string; wasm: Buffer; digest: string },
  by: string,
) {
  const { entrypoint, wasm, digest } = compiled
  return { policy_id: policyId, number, ...says, created_by: by, entrypoint, wasm, wasm_sha256: digest }
}

/** Rego is what people wrote and may be long: the log has what it was, not all of it. */
const LOGGED_REGO = 8_000

function logged(
  value: Partial<SaysRow> & {
    readonly name?: string | undefined
    readonly latest_version?: number
    readonly rego_content?: string
  },
) {
  const { name, description, regulation_refs, severity, mode, latest_version, rego_content } = value
  return {
    ...(name === undefined ? {} : { name }),
    ...(description === undefined ? {} : { description }),
    ...(regulation_refs === undefined ? {} : { regulation_refs: [...regulation_refs] }),
    ...(severity === undefined ? {} : { severity }),
    ...(mode === undefined ? {} : { mode }),
    ...(latest_version === undefined ? {} : { latest_version }),
    ...(rego_content === undefined ? {} : { rego_content: rego_content.slice(0, LOGGED_REGO) }),
  }
}
