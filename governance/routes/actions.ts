import type { FastifyInstance } from 'fastify'
import Type from 'typebox'
import { SignetError } from '#core/error/signet-error.ts'
import { withTenant } from '#runtime/postgres/transaction.ts'
import { extentOf } from '../access/permission.ts'
import { permissionsOf } from '../access/principal.ts'
import { defineCall, found, principalOf, type CallDeps } from '../http/calls.ts'
import { ById, Id, Time } from '../http/schemas.ts'
import { findAction } from '../store/actions.ts'

const ActionState = Type.Object({
  id: Id,
  state: Type.Enum(['intended', 'committed', 'failed', 'reverted', 'denied']),
  action: Type.String(),
  resource: Type.String(),
  principal: Type.String(),
  started_at: Time,
  ended_at: Type.Union([Time, Type.Null()]),
  recorded_at: Type.Union([Time, Type.Null()], {
    description: 'When the ledger had acknowledged its outcome; null: not yet.',
  }),
})

/** What became of an action: for who was told that its record is not confirmed yet. */
export function actionRoutes(app: FastifyInstance, deps: CallDeps): void {
  defineCall(
    app,
    deps,
    {
      method: 'GET',
      url: '/api/v1/actions/:id',
      summary: 'What became of an action: your own, or with `read:audit` any',
      tag: 'actions',
      permission: 'signed-in',
      params: ById,
      answer: ActionState,
    },
    async ({ params: { id } }, request) => {
      const principal = principalOf(request)
      const { tenant, name, scopes } = principal
      return withTenant(
        deps.pool,
        tenant,
        async (client) => {
          const row = found(await findAction(client, tenant, id), 'action')
          const readsAll = extentOf(await permissionsOf(client, principal, false), scopes, 'read', 'audit') === 'all'
          if (row.principal !== name && !readsAll) throw new SignetError('NOT_FOUND', 'there is no such action')
          return {
            id,
            state: row.state,
            action: row.action,
            resource: row.resource,
            principal: row.principal,
            started_at: row.started_at.toISOString(),
            ended_at: row.ended_at?.toISOString() ?? null,
            recorded_at: row.recorded_at?.toISOString() ?? null,
          }
        },
        { readOnly: true },
      )
    },
  )
}
