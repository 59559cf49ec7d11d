import type { FastifyInstance } from 'fastify'
import Type from 'typebox'
import { SignetError } from '#core/error/signet-error.ts'
import { defineCall, principalOf, read, write, type CallDeps } from '../http/calls.ts'
import { Time } from '../http/schemas.ts'
import type { Resolver } from '../resolution/resolver.ts'
import { RULES_WITH_STRATEGIES, STRATEGIES, strategiesOf, type ChosenStrategies } from '../resolution/strategies.ts'
import { findSettings, putSettings, type SettingsRow } from '../store/resolution.ts'

const Mode = Type.Enum(['off', 'dry_run', 'on'])
const Strategies = Type.Record(Type.String({ pattern: '^[a-z_]{1,64}$' }), Type.Enum(STRATEGIES), {
  maxProperties: 64,
  description: 'The strategy of a rule, where it is not the one that the rule has by itself (docs/violations.md).',
})
const BlockEndpoints = Type.Boolean({
  description: 'Whether proxies hold back an endpoint while it differs from its contract.',
})
const Settings = Type.Object({
  mode: Mode,
  strategies: Strategies,
  block_endpoints: BlockEndpoints,
  updated_by: Type.Union([Type.String(), Type.Null()]),
  updated_at: Type.Union([Time, Type.Null()]),
})
const NewSettings = Type.Object(
  { mode: Mode, strategies: Type.Optional(Strategies), block_endpoints: Type.Optional(BlockEndpoints) },
  { additionalProperties: false, description: 'What is left out stays as it is.' },
)

/** Whether, and how, Signet resolves violations by itself. */
export function resolutionRoutes(app: FastifyInstance, deps: CallDeps & { readonly resolver: Resolver }): void {
  const url = '/api/compliance/resolution-settings'
  const tag = 'violations'

  defineCall(
    app,
    deps,
    {
      method: 'GET',
      url,
      summary: 'Whether, and how, Signet resolves violations by itself; `dry_run` says what it would do',
      tag,
      permission: ['read', 'violations'],
      answer: Settings,
    },
    (_input, request) =>
      read(deps, request, { action: 'read', resource: 'violations' }, async (client, { tenant }) =>
        present(await findSettings(client, tenant)),
      ),
  )

  defineCall(
    app,
    deps,
    {
      method: 'PUT',
      url,
      summary: 'Switches it, and says by which strategy',
      tag,
      permission: ['override', 'violations'],
      body: NewSettings,
      answer: Settings,
    },
    async ({ body }, request) => {
      requirePossible(body.strategies ?? {})
      const result = await write(
        deps,
        request,
        { action: 'override', resource: 'violations' },
        body,
        async (client, { tenant, principal }) => {
          const before = await findSettings(client, tenant)
          const row = await putSettings(client, tenant, { ...before, ...body, updated_by: principal.name })
          return { result: present(row), before: logged(before), after: logged(row) }
        },
      )
      deps.resolver.touch(principalOf(request).tenant)
      return result
    },
  )
}

/** @throws SignetError REQUEST_INVALID */
function requirePossible(strategies: ChosenStrategies): void {
  for (const [rule, strategy] of Object.entries(strategies)) {
    if (!RULES_WITH_STRATEGIES.includes(rule))
      throw new SignetError(
        'REQUEST_INVALID',
        `the body at /strategies names the rule ${rule}; allowed: ${RULES_WITH_STRATEGIES.join(', ')}`,
      )
    const possible = strategiesOf(rule)
    if (!possible.includes(strategy))
      throw new SignetError(
        'REQUEST_INVALID',
        `the body at /strategies/${rule}: ${strategy} does nothing about it; allowed: ${possible.join(', ')}`,
      )
  }
}

function present({ updated_at, ...row }: SettingsRow) {
  return { ...row, strategies: { ...row.strategies }, updated_at: updated_at?.toISOString() ?? null }
}

function logged({ mode, strategies, block_endpoints }: SettingsRow) {
  return { mode, strategies: { ...strategies }, block_endpoints }
}
