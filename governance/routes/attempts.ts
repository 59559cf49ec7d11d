import type { FastifyInstance } from 'fastify'
import Type from 'typebox'
import { SignetError } from '#core/error/signet-error.ts'
import type { JsonObject } from '#core/json/value.ts'
import type { Client } from '#runtime/postgres/transaction.ts'
import type { BundlePublisher } from '../bundles/publisher.ts'
import { defineCall, found, principalOf, read, write, type CallDeps } from '../http/calls.ts'
import { ById, Id, ListOf, Text, Time } from '../http/schemas.ts'
import { ACTOR } from '../resolution/acted.ts'
import { reasonsAgainst, takeBack } from '../resolution/undo.ts'
import { findViolation, setViolation, type ViolationRow } from '../store/compliance.ts'
import { findAttempt, listAttempts, setUndone, type AttemptRow } from '../store/resolution.ts'

const Attempt = Type.Object({
  id: Id,
  strategy: Type.String(),
  dry_run: Type.Boolean(),
  outcome: Type.Enum(['resolved', 'contained', 'not_resolved', 'failed', 'would_act', 'waiting']),
  detail: Type.String(),
  evidence: Type.Record(Type.String(), Type.Unknown()),
  can_undo: Type.Boolean({
    description: 'It changed something that can be taken back, unless that was changed since.',
  }),
  undone_at: Type.Union([Time, Type.Null()]),
  undone_by: Type.Union([Type.String(), Type.Null()]),
  created_at: Time,
})
const Undo = Type.Object(
  { comment: { ...Text(4_000), minLength: 1, description: 'Why it is taken back.' } },
  { additionalProperties: false },
)

/** What Signet did about a violation by itself, and how a person takes it back. */
export function attemptRoutes(app: FastifyInstance, deps: CallDeps & { readonly publisher: BundlePublisher }): void {
  const tag = 'violations'
  const url = '/api/compliance/violations/:id/attempts'
  const resource = 'violations'

  defineCall(
    app,
    deps,
    {
      method: 'GET',
      url,
      summary: 'What Signet tried to resolve it by itself, oldest first',
      tag,
      permission: ['read', resource],
      params: ById,
      answer: ListOf(Attempt),
    },
    ({ params: { id } }, request) =>
      read(deps, request, { action: 'read', resource, id }, async (client, { tenant }) => {
        found(await findViolation(client, tenant, id), 'violation')
        return { items: (await listAttempts(client, tenant, id)).map(present) }
      }),
  )

  defineCall(
    app,
    deps,
    {
      method: 'POST',
      url: '/api/compliance/attempts/:id/undo',
      summary:
        'Takes back what a try changed; done again it changes nothing more. The violation is left to people then',
      tag,
      permission: ['override', resource],
      params: ById,
      body: Undo,
      answer: Attempt,
    },
    async ({ params: { id }, body: { comment } }, request) => {
      const result = await write(
        deps,
        request,
        { action: 'override', resource, id },
        { undo: id, comment },
        async (client, { tenant, principal }) => {
          const { violation_id } = found(await findAttempt(client, tenant, id), 'try')
          const violation = found(await findViolation(client, tenant, violation_id, true), 'violation')
          // Under the lock: one undoes it after the other.
          const row = found(await findAttempt(client, tenant, id), 'try')
          if (row.undone_at !== null)
            return { result: present(row), before: null, after: { attempt: id, undone_before: true } }
          if (row.undo === null) throw new SignetError('CONFLICT', `this try cannot be taken back: ${nothingOf(row)}`)
          const reasons = await reasonsAgainst(client, tenant, row.undo)
          if (reasons.length > 0)
            throw new SignetError('CONFLICT', `this try cannot be taken back: ${reasons.slice(0, 10).join('; ')}`)
          const by = { by: principal.name, comment, now: deps.clock() }
          const undone = await takeBack(client, tenant, row.undo, { ...by, newId: deps.newId })
          const state = await reopen(client, tenant, violation, row, by)
          return {
            result: present(await setUndone(client, tenant, id, by)),
            before: { state: violation.state, strategy: row.strategy, outcome: row.outcome },
            after: { state, violation_id, comment, ...undone },
          }
        },
      )
      deps.publisher.touch(principalOf(request).tenant)
      return result
    },
  )
}

/** What a try brought about is not so any more; how a person ended it stands. @returns the state that follows */
async function reopen(
  client: Client,
  tenant: string,
  violation: ViolationRow,
  { outcome, id }: AttemptRow,
  { by, comment, now }: { readonly by: string; readonly comment: string; readonly now: Date },
): Promise<ViolationRow['state']> {
  const { state, resolved_by } = violation
  const isItsDoing =
    (outcome === 'contained' && state === 'contained') ||
    (outcome === 'resolved' && state === 'resolved' && resolved_by === ACTOR)
  if (!isItsDoing) return state
  const resolution: JsonObject = { by: 'undone', person: by, attempt: id, comment }
  await setViolation(client, tenant, violation.id, { state: 'open', by: null, resolution, now })
  return 'open'
}

function nothingOf({ dry_run, outcome }: AttemptRow): string {
  if (dry_run) return 'it said what it would do, and did nothing'
  return outcome === 'failed' ? 'it failed, and changed nothing' : 'it changed nothing, or nothing that is kept'
}

function present({ undo, violation_id: _of, undone_at, created_at, evidence, ...row }: AttemptRow) {
  return {
    ...row,
    evidence: { ...evidence } as Record<string, unknown>,
    can_undo: undo !== null && undone_at === null,
    undone_at: undone_at?.toISOString() ?? null,
    created_at: created_at.toISOString(),
  }
}
