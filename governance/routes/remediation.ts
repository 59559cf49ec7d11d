import type { FastifyInstance, FastifyRequest } from 'fastify'
import Type from 'typebox'
import { SignetError } from '#core/error/signet-error.ts'
import type { JsonObject } from '#core/json/value.ts'
import type { Client } from '#runtime/postgres/transaction.ts'
import type { Action } from '../access/permission.ts'
import type { Rights } from '../actions/runner.ts'
import { defineCall, found, principalOf, read, requireVersion, write, type CallDeps } from '../http/calls.ts'
import { ById, Id, ListOf, PageOf, Paging, Text, Time, Version } from '../http/schemas.ts'
import { dueAt, legalTransitions, REMEDIATION_STATUSES } from '../remediation/status.ts'
import { rerunRule } from '../scans/rerun.ts'
import { storeScan, type ScanDeps } from '../scans/scan.ts'
import type { Scanner } from '../scans/scanner.ts'
import { DEFAULT_LIMIT, pageOf, parseCursor } from '../store/paging.ts'
import {
  findRemediation,
  insertHistory,
  insertRemediation,
  listHistory,
  listRemediation,
  updateRemediation,
  type HistoryRow,
  type RemediationRow,
} from '../store/remediation.ts'
import { findResult } from '../store/scans.ts'
import { parseTime } from '../workflows/time.ts'
import { requireAssignee } from './tasks.ts'

const Status = Type.Enum(REMEDIATION_STATUSES)
const Metadata = Type.Record(Type.String({ pattern: '^[A-Za-z][A-Za-z0-9_.-]{0,63}$' }), Type.Unknown(), {
  maxProperties: 64,
  additionalProperties: false,
})
const Remediation = Type.Object({
  id: Id,
  result_id: Id,
  rule_id: Type.String(),
  user_id: Type.Union([Id, Type.Null()]),
  severity: Type.String(),
  finding: Type.String(),
  status: Status,
  assigned_to: Type.Union([Id, Type.Null()]),
  verified: Type.Boolean(),
  verified_by: Type.Union([Id, Type.Null()], { description: 'The passing result that verifies it.' }),
  metadata: Type.Record(Type.String(), Type.Unknown()),
  due_at: Time,
  version: Type.Integer(),
  created_at: Time,
  updated_at: Time,
})
const ListQuery = Type.Object(
  {
    ...Paging,
    result_id: Type.Optional(Id),
    user_id: Type.Optional(Id),
    assigned_to: Type.Optional(Id),
    status: Type.Optional(Status),
  },
  { additionalProperties: false },
)
const NewRemediation = Type.Object(
  { result_id: Id, assigned_to: Type.Optional(Id), metadata: Type.Optional(Metadata), due_at: Type.Optional(Time) },
  { additionalProperties: false },
)
const Change = Type.Object(
  { metadata: Type.Optional(Metadata), due_at: Type.Optional(Time), version: Type.Optional(Version) },
  { additionalProperties: false, minProperties: 1 },
)
const History = Type.Object({
  id: Id,
  kind: Type.String(),
  made_by: Type.String(),
  details: Type.Record(Type.String(), Type.Unknown()),
  created_at: Time,
})

type Changed = { readonly row: RemediationRow; readonly kind: HistoryRow['kind']; readonly details: JsonObject }

/** Remediation actions: what is done about what scans found. Who may see their own only, sees what is assigned to them. */
export function remediationRoutes(app: FastifyInstance, deps: CallDeps & { readonly scanner: Scanner }): void {
  const tag = 'remediation'
  const url = '/api/remediation/'
  const one = `${url}:id`
  const resource = 'remediation'
  const scan: ScanDeps = deps

  defineCall(
    app,
    deps,
    {
      method: 'GET',
      url,
      summary: 'Remediation actions, newest first',
      tag,
      permission: ['read', resource],
      query: ListQuery,
      answer: PageOf(Remediation),
    },
    ({ query: { cursor, limit = DEFAULT_LIMIT, ...filter } }, request) => {
      const after = parseCursor(cursor)
      return read(
        deps,
        request,
        { action: 'read', resource, ownCounts: true },
        async (client, { tenant, extent, principal }) => {
          if (extent === 'own' && filter.assigned_to !== undefined && filter.assigned_to !== principal.id)
            return { items: [], next_cursor: null }
          const seen = extent === 'own' ? { ...filter, assigned_to: principal.id } : filter
          return pageOf(await listRemediation(client, tenant, seen, { after, limit }), limit, present)
        },
      )
    },
  )

  defineCall(
    app,
    deps,
    {
      method: 'GET',
      url: one,
      summary: 'A remediation action',
      tag,
      permission: ['read', resource],
      params: ById,
      answer: Remediation,
    },
    ({ params: { id } }, request) =>
      read(deps, request, { action: 'read', resource, id, ownCounts: true }, async (client, rights) =>
        present(await mine(client, rights, id, false)),
      ),
  )

  defineCall(
    app,
    deps,
    {
      method: 'GET',
      url: `${one}/history`,
      summary: 'What happened to it, oldest first',
      tag,
      permission: ['read', resource],
      params: ById,
      answer: ListOf(History),
    },
    ({ params: { id } }, request) =>
      read(deps, request, { action: 'read', resource, id, ownCounts: true }, async (client, rights) => {
        await mine(client, rights, id, false)
        return { items: (await listHistory(client, rights.tenant, id)).map(presentHistory) }
      }),
  )

  defineCall(
    app,
    deps,
    {
      method: 'POST',
      url,
      summary: 'Opens an action for a result',
      tag,
      permission: ['write', resource],
      body: NewRemediation,
      answer: Remediation,
      status: 201,
    },
    ({ body }, request) => {
      const id = deps.newId()
      const { result_id, assigned_to = null, metadata = {}, due_at } = body
      return write(
        deps,
        request,
        { action: 'write', resource, id },
        { result_id, assigned_to },
        async (client, { tenant, principal }) => {
          const result = await findResult(client, tenant, result_id)
          if (result === null) throw new SignetError('REQUEST_INVALID', 'the body at /result_id names no result')
          if (result.passed) throw new SignetError('CONFLICT', 'this result passed: there is nothing to mend')
          if (assigned_to !== null) await requireAssignee(client, tenant, assigned_to)
          const { rule_id, user_id, severity, finding } = result
          const due = due_at === undefined ? dueAt(severity, deps.clock().getTime()) : parseTime(due_at, '/due_at')
          const row = await insertRemediation(client, tenant, {
            id,
            result_id,
            rule_id,
            user_id,
            severity,
            finding,
            metadata: metadata as JsonObject,
            due_at: due,
            assigned_to,
          })
          if (row === null) throw new SignetError('CONFLICT', 'an action for this rule and user is open already')
          await insertHistory(client, tenant, id, {
            id: deps.newId(),
            kind: 'opened',
            made_by: principal.name,
            details: { result_id },
          })
          return { result: present(row), before: null, after: logged(row) }
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
      summary: 'Changes metadata and due date',
      tag,
      permission: ['write', resource],
      params: ById,
      body: Change,
      answer: Remediation,
    },
    ({ params: { id }, body: { version, metadata, due_at } }, request) => {
      return change(
        request,
        'write',
        id,
        { due_at: due_at ?? null, metadata: metadata === undefined ? null : Object.keys(metadata) },
        (_client, row) => {
          requireVersion(row, version)
          const next = {
            ...row,
            metadata: (metadata ?? row.metadata) as JsonObject,
            due_at: due_at === undefined ? row.due_at : parseTime(due_at, '/due_at'),
          }
          return Promise.resolve({
            row: next,
            kind: 'comment',
            details: {
              changed: ['metadata', 'due_at'].filter((name) => (name === 'metadata' ? metadata : due_at) !== undefined),
            },
          })
        },
      )
    },
  )

  defineCall(
    app,
    deps,
    {
      method: 'POST',
      url: `${one}/status`,
      summary: 'Takes it on: open, in_progress, resolved, closed',
      tag,
      permission: ['execute', resource],
      params: ById,
      body: Type.Object({ status: Status, version: Type.Optional(Version) }, { additionalProperties: false }),
      answer: Remediation,
    },
    ({ params: { id }, body: { status, version } }, request) =>
      change(request, 'execute', id, { status }, (_client, row) => {
        requireVersion(row, version)
        const legal = legalTransitions(row.status)
        if (!legal.includes(status))
          throw new SignetError(
            'CONFLICT',
            legal.length === 0
              ? `this action is ${row.status}, which is final`
              : `an action that is ${row.status} cannot become ${status}; it can become ${legal.join(' or ')}`,
          )
        // Whoever goes back to work on it has not mended it.
        const verified = status === 'in_progress' || status === 'open' ? false : row.verified
        const next = { ...row, status, verified, verified_by: verified ? row.verified_by : null }
        return Promise.resolve({ row: next, kind: 'status', details: { from: row.status, to: status } })
      }),
  )

  defineCall(
    app,
    deps,
    {
      method: 'POST',
      url: `${one}/assign`,
      summary: 'Gives it to a user or a service account, or to nobody',
      tag,
      permission: ['assign', resource],
      params: ById,
      body: Type.Object({ assigned_to: Type.Union([Id, Type.Null()]) }, { additionalProperties: false }),
      answer: Remediation,
    },
    ({ params: { id }, body: { assigned_to } }, request) =>
      change(request, 'assign', id, { assigned_to }, async (client, row, { tenant }) => {
        if (assigned_to !== null) await requireAssignee(client, tenant, assigned_to)
        return { row: { ...row, assigned_to }, kind: 'assigned', details: { from: row.assigned_to, to: assigned_to } }
      }),
  )

  defineCall(
    app,
    deps,
    {
      method: 'POST',
      url: `${one}/comments`,
      summary: 'Says something to it',
      tag,
      permission: ['write', resource],
      params: ById,
      body: Type.Object({ text: { ...Text(4_000), minLength: 1 } }, { additionalProperties: false }),
      answer: Remediation,
      status: 201,
    },
    ({ params: { id }, body: { text } }, request) =>
      change(request, 'write', id, { comment: text }, (_client, row) =>
        Promise.resolve({ row, kind: 'comment', details: { text } }),
      ),
  )

  defineCall(
    app,
    deps,
    {
      method: 'POST',
      url: `${one}/verify`,
      summary: 'Says that it is mended, which takes a rule that holds now, or that it is not',
      tag,
      permission: ['execute', resource],
      params: ById,
      body: Type.Object({ verified: Type.Boolean() }, { additionalProperties: false }),
      answer: Remediation,
    },
    async ({ params: { id }, body: { verified } }, request) => {
      const { tenant, name } = principalOf(request)
      const target = { action: 'execute', resource, id, ownCounts: true } as const
      const before = await read(deps, request, target, (client, rights) => mine(client, rights, id, false))
      if (!verified)
        return change(request, 'execute', id, { verified }, (_client, row) =>
          Promise.resolve({
            row: { ...row, verified: false, verified_by: null },
            kind: 'verified',
            details: { verified: false },
          }),
        )
      const made = await rerunRule(scan, tenant, before.result_id, name)
      const [again] = made.results
      return change(request, 'execute', id, { verified, result_id: again?.id ?? null }, async (client, row) => {
        if (again === undefined || !again.passed)
          throw new SignetError('CONFLICT', `the rule ${row.rule_id} does not hold yet: ${row.finding}`)
        await storeScan(client, tenant, made, deps)
        return {
          row: { ...row, verified: true, verified_by: again.id },
          kind: 'verified',
          details: { verified: true, result_id: again.id },
        }
      })
    },
  )

  async function change(
    request: FastifyRequest,
    action: Action,
    id: string,
    wanted: JsonObject,
    decide: (client: Client, row: RemediationRow, rights: Rights) => Promise<Changed>,
  ): Promise<ReturnType<typeof present>> {
    return write(
      deps,
      request,
      { action, resource, id, ownCounts: action !== 'assign' },
      wanted,
      async (client, rights) => {
        const before = await mine(client, rights, id, true)
        const { row, kind, details } = await decide(client, before, rights)
        const after = await updateRemediation(client, rights.tenant, row)
        await insertHistory(client, rights.tenant, id, {
          id: deps.newId(),
          kind,
          made_by: rights.principal.name,
          details,
        })
        return {
          result: present(after),
          before: logged(before),
          after: { ...logged(after), ...(kind === 'comment' ? details : {}) },
        }
      },
    )
  }
}

/** @throws SignetError NOT_FOUND: it is not there, or it is somebody else's and one may see one's own only */
async function mine(
  client: Client,
  { tenant, extent, principal }: Rights,
  id: string,
  lock: boolean,
): Promise<RemediationRow> {
  const row = found(await findRemediation(client, tenant, id, lock), 'remediation action')
  if (extent === 'own' && row.assigned_to !== principal.id)
    throw new SignetError('NOT_FOUND', 'there is no such remediation action')
  return row
}

function present({ due_at, created_at, updated_at, metadata, ...row }: RemediationRow) {
  return {
    ...row,
    metadata: { ...metadata } as Record<string, unknown>,
    due_at: due_at.toISOString(),
    created_at: created_at.toISOString(),
    updated_at: updated_at.toISOString(),
  }
}

function presentHistory({ created_at, details, ...row }: HistoryRow) {
  return { ...row, details: { ...details } as Record<string, unknown>, created_at: created_at.toISOString() }
}

function logged({ status, assigned_to, verified, rule_id, result_id, due_at }: RemediationRow) {
  return { rule_id, result_id, status, assigned_to, verified, due_at: due_at.toISOString() }
}
