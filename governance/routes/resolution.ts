import type { FastifyInstance } from 'fastify'
import Type from 'typebox'
import { defineCall, principalOf, read, write, type CallDeps } from '../http/calls.ts'
import { Time } from '../http/schemas.ts'
import type { Resolver } from '../resolution/resolver.ts'
import { findSettings, putSettings } from '../store/compliance.ts'

const Mode = Type.Enum(['off', 'dry_run', 'on'])
const Settings = Type.Object({
  mode: Mode,
  updated_by: Type.Union([Type.String(), Type.Null()]),
  updated_at: Type.Union([Time, Type.Null()]),
})

/** Whether Signet resolves violations by itself. */
export function resolutionRoutes(app: FastifyInstance, deps: CallDeps & { readonly resolver: Resolver }): void {
  const url = '/api/compliance/resolution-settings'
  const tag = 'violations'

  defineCall(
    app,
    deps,
    {
      method: 'GET',
      url,
      summary: 'Whether Signet resolves violations by itself; `dry_run` says what it would do',
      tag,
      permission: ['read', 'violations'],
      answer: Settings,
    },
    (_input, request) =>
      read(deps, request, { action: 'read', resource: 'violations' }, async (client, { tenant }) => {
        const row = await findSettings(client, tenant)
        return {
          mode: row?.mode ?? 'dry_run',
          updated_by: row?.updated_by ?? null,
          updated_at: row?.updated_at.toISOString() ?? null,
        }
      }),
  )

  defineCall(
    app,
    deps,
    {
      method: 'PUT',
      url,
      summary: 'Switches it',
      tag,
      permission: ['override', 'violations'],
      body: Type.Object({ mode: Mode }, { additionalProperties: false }),
      answer: Settings,
    },
    async ({ body: { mode } }, request) => {
      const result = await write(
        deps,
        request,
        { action: 'override', resource: 'violations' },
        { mode },
        async (client, { tenant, principal }) => {
          const before = await findSettings(client, tenant)
          await putSettings(client, tenant, { mode, updated_by: principal.name })
          const row = await findSettings(client, tenant)
          return {
            result: { mode, updated_by: principal.name, updated_at: row?.updated_at.toISOString() ?? null },
            before: { mode: before?.mode ?? 'dry_run' },
            after: { mode },
          }
        },
      )
      deps.resolver.touch(principalOf(request).tenant)
      return result
    },
  )
}
