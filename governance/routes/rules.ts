import type { FastifyInstance } from 'fastify'
import Type from 'typebox'
import { SignetError } from '#core/error/signet-error.ts'
import { SEVERITIES } from '#core/policy/decision.ts'
import { Conditions } from '#core/rule/condition.ts'
import { RULE_NAME_PATTERN } from '#core/rule/model.ts'
import { checkRule } from '#engine/compile/rule-set.ts'
import { defineCall, found, read, requireVersion, write, type CallDeps } from '../http/calls.ts'
import { Time, Version } from '../http/schemas.ts'
import { takeYaml, YAML_MEDIA_TYPE } from '../http/yaml.ts'
import type { CompilerDeps } from '../policies/compile.ts'
import { factsOf, NewRule, RuleChange, ruleObject, ruleOf, type Rule } from '../rules/rule.ts'
import { DEFAULT_LIMIT, MAX_LIMIT } from '../store/paging.ts'
import { countRules, deleteRule, findRule, insertRule, listRules, updateRule, type RuleRow } from '../store/rules.ts'

const MAX_RULES = 5_000
const CHECK_TIMEOUT_MS = 20_000

const RuleId = Type.String({ pattern: RULE_NAME_PATTERN })
/** A body says the same in both. */
const BODIES = ['application/json', YAML_MEDIA_TYPE]
const ByRule = Type.Object({ id: RuleId })
const RuleShape = Type.Object({
  id: RuleId,
  name: Type.String(),
  description: Type.String(),
  framework: Type.String(),
  severity: Type.Enum(SEVERITIES),
  conditions: Conditions,
  event: Type.Object({ type: Type.String(), params: Type.Optional(Type.Record(Type.String(), Type.Unknown())) }),
  is_active: Type.Boolean(),
  facts: Type.Array(Type.String(), { description: 'What it looks at.' }),
  source: Type.Enum(['api', 'file'], { description: '`file`: it says what a file of the rules folder says.' }),
  shadows_file: Type.Boolean({
    description: 'A file of the rules folder has a rule of this id, which is not in force: this one is.',
  }),
  version: Type.Integer(),
  created_at: Time,
  updated_at: Time,
})
const ListQuery = Type.Object(
  {
    cursor: Type.Optional(RuleId),
    limit: Type.Optional(Type.Integer({ minimum: 1, maximum: MAX_LIMIT, default: DEFAULT_LIMIT })),
    framework: Type.Optional(Type.String({ maxLength: 64 })),
  },
  { additionalProperties: false },
)
const Change = Type.Object(
  { ...RuleChange.properties, version: Type.Optional(Version) },
  { additionalProperties: false, minProperties: 1 },
)

type RuleDeps = CallDeps & { readonly compiler: CompilerDeps }

/** Rules over facts: what scans apply. */
export function ruleRoutes(app: FastifyInstance, deps: RuleDeps): void {
  // Of its own: nothing else takes YAML.
  app.register((scope, _options, done) => {
    takeYaml(scope)
    defineRuleCalls(scope, deps)
    done()
  })
}

function defineRuleCalls(app: FastifyInstance, deps: RuleDeps): void {
  const tag = 'rules'
  const url = '/rules'
  const one = `${url}/:id`
  const resource = 'rules'

  defineCall(
    app,
    deps,
    {
      method: 'GET',
      url,
      summary: 'Rules, by id',
      tag,
      permission: ['read', resource],
      query: ListQuery,
      answer: Type.Object({ items: Type.Array(RuleShape), next_cursor: Type.Union([Type.String(), Type.Null()]) }),
    },
    ({ query: { cursor, limit = DEFAULT_LIMIT, framework } }, request) =>
      read(deps, request, { action: 'read', resource }, async (client, { tenant }) => {
        const rows = await listRules(client, tenant, { after: cursor ?? null, limit, framework: framework ?? null })
        const shown = rows.slice(0, limit)
        return { items: shown.map(present), next_cursor: rows.length > limit ? (shown.at(-1)?.id ?? null) : null }
      }),
  )

  defineCall(
    app,
    deps,
    {
      method: 'GET',
      url: one,
      summary: 'A rule',
      tag,
      permission: ['read', resource],
      params: ByRule,
      answer: RuleShape,
    },
    ({ params: { id } }, request) =>
      read(deps, request, { action: 'read', resource, id }, async (client, { tenant }) =>
        present(found(await findRule(client, tenant, id), 'rule')),
      ),
  )

  defineCall(
    app,
    deps,
    {
      method: 'POST',
      url,
      summary: 'Makes a rule',
      tag,
      permission: ['write', resource],
      body: NewRule,
      consumes: BODIES,
      answer: RuleShape,
      status: 201,
    },
    async ({ body }, request) => {
      const rule = ruleOf(body)
      const target = { action: 'write', resource, id: rule.id } as const
      await read(deps, request, target, async () => undefined)
      await check(rule)
      return write(deps, request, target, logged(rule), async (client, { tenant }) => {
        if ((await countRules(client, tenant)) >= MAX_RULES)
          throw new SignetError('POLICY_LIMIT', `there are ${MAX_RULES} rules already, as many as there may be`)
        if (!(await insertRule(client, tenant, rule)))
          throw new SignetError('CONFLICT', `there is a rule ${rule.id} already`)
        const row = found(await findRule(client, tenant, rule.id), 'rule')
        return { result: present(row), before: null, after: logged(row) }
      })
    },
  )

  defineCall(
    app,
    deps,
    {
      method: 'PATCH',
      url: one,
      summary: 'Changes a rule; one of a file can be switched on and off',
      tag,
      permission: ['write', resource],
      params: ByRule,
      body: Change,
      consumes: BODIES,
      answer: RuleShape,
    },
    async ({ params: { id }, body: { version, ...change } }, request) => {
      const target = { action: 'write', resource, id } as const
      const now = await read(deps, request, target, async (client, { tenant }) =>
        found(await findRule(client, tenant, id), 'rule'),
      )
      const wanted = { ...now, ...change } as Rule
      if (change.conditions !== undefined) await check(wanted)
      return write(deps, request, target, change, async (client, { tenant }) => {
        const before = found(await findRule(client, tenant, id, true), 'rule')
        requireVersion(before, version)
        if (before.version !== now.version) throw new SignetError('CONFLICT', 'it was changed meanwhile; read it again')
        if (before.source === 'file' && Object.keys(change).some((name) => name !== 'is_active'))
          throw new SignetError(
            'CONFLICT',
            'this rule is of a file and says what the file says; only is_active is yours',
          )
        await updateRule(client, tenant, wanted)
        const after = found(await findRule(client, tenant, id), 'rule')
        return { result: present(after), before: logged(before), after: logged(after) }
      })
    },
  )

  defineCall(
    app,
    deps,
    {
      method: 'DELETE',
      url: one,
      summary: 'Deletes a rule; what it found stays',
      tag,
      permission: ['delete', resource],
      params: ByRule,
      answer: null,
    },
    ({ params: { id } }, request) =>
      write(deps, request, { action: 'delete', resource, id }, null, async (client, { tenant }) => {
        const before = found(await findRule(client, tenant, id, true), 'rule')
        if (before.source === 'file') throw new SignetError('CONFLICT', 'this rule is of a file; switch it off instead')
        await deleteRule(client, tenant, id)
        return { result: undefined, before: logged(before), after: null }
      }),
  )

  /** @throws SignetError RULE_INVALID naming the place, OPA_UNAVAILABLE */
  async function check(rule: Rule): Promise<void> {
    const { opa, memory } = deps.compiler
    if (opa === undefined)
      throw new SignetError('OPA_UNAVAILABLE', 'this governance has no OPA (SIGNET_OPA): it cannot compile rules')
    const [problem] = await checkRule(ruleObject(rule), { opa, memory: memory.checks, timeoutMs: CHECK_TIMEOUT_MS })
    if (problem !== undefined) throw new SignetError('RULE_INVALID', problem.message.replaceAll('spec.', ''))
  }
}

function present(row: RuleRow) {
  const { created_at, updated_at, conditions, event, ...rest } = row
  return {
    ...rest,
    conditions,
    event: event as { type: string; params?: Record<string, unknown> },
    facts: factsOf(conditions),
    created_at: created_at.toISOString(),
    updated_at: updated_at.toISOString(),
  }
}

function logged({ id, name, framework, severity, conditions, event, is_active }: Rule) {
  return {
    id,
    name,
    framework,
    severity,
    conditions: JSON.stringify(conditions).slice(0, 4_000),
    event_type: event.type,
    is_active,
  }
}
