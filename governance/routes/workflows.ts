import type { FastifyInstance, FastifyRequest } from 'fastify'
import Type from 'typebox'
import { SignetError } from '#core/error/signet-error.ts'
import type { BundlePublisher } from '../bundles/publisher.ts'
import type { Catalog } from '../frameworks/catalog.ts'
import { defineCall, found, principalOf, read, requireVersion, write, type CallDeps } from '../http/calls.ts'
import { ById, Id, Line, PageOf, Paging, Text, Time, Version } from '../http/schemas.ts'
import { DEFAULT_LIMIT, pageOf, parseCursor } from '../store/paging.ts'
import {
  deleteApprovals,
  findWorkflow,
  insertTransition,
  insertWorkflow,
  listTransitions,
  listWorkflows,
  updateWorkflow,
  type WorkflowRow,
} from '../store/workflows.ts'
import type { Client } from '#runtime/postgres/transaction.ts'
import { normalized, ReleaseShape, requireRelease } from '../workflows/release.ts'
import { WORKFLOW_STATUSES } from '../workflows/status.ts'
import { parseTime } from '../workflows/time.ts'
import { approve, approversOf, requireLegal } from '../workflows/transition.ts'

export type WorkflowRouteDeps = CallDeps & {
  readonly publisher: BundlePublisher
  readonly catalogs: ReadonlyMap<string, Catalog>
}

const Status = Type.Enum(WORKFLOW_STATUSES)
const NewWorkflow = Type.Object(
  {
    regulation: Type.String({
      pattern: '^[a-z0-9_]{1,40}$',
      description: 'soc2, gdpr, …: one of /api/v1/regulations.',
    }),
    name: Line(200),
    description: Type.Optional(Text(4_000)),
    required_approvals: Type.Optional(
      Type.Integer({ minimum: 1, maximum: 5, default: 1, description: 'By people other than who asks.' }),
    ),
    due_at: Type.Optional(Time),
    release: Type.Optional(ReleaseShape),
  },
  { additionalProperties: false },
)
const Workflow = Type.Object({
  id: Id,
  kind: Type.Enum(['review', 'release', 'policy']),
  regulation: Type.String(),
  name: Type.String(),
  description: Type.String(),
  status: Status,
  paused: Type.Boolean(),
  overdue: Type.Boolean(),
  required_approvals: Type.Integer(),
  approved_by: Type.Array(Type.String()),
  requested_by: Type.String(),
  due_at: Type.Union([Time, Type.Null()]),
  release: Type.Union([ReleaseShape, Type.Null()]),
  policy: Type.Union([Type.Object({ id: Id, version: Type.Integer() }), Type.Null()], {
    description: 'The draft that it is about.',
  }),
  version: Type.Integer(),
  created_at: Time,
  updated_at: Time,
})
const ListQuery = Type.Object({ ...Paging, status: Type.Optional(Status) }, { additionalProperties: false })
const Transition = Type.Object(
  { status: Status, comment: Type.Optional(Text(4_000)), version: Type.Optional(Version) },
  { additionalProperties: false },
)
const History = Type.Object({
  items: Type.Array(
    Type.Object({
      id: Id,
      old_status: Type.String(),
      new_status: Type.String(),
      made_by: Type.String(),
      comment: Type.String(),
      created_at: Time,
    }),
  ),
})

/** Workflows: reviews of a regulation, and approvals of releases, which reach proxies in the bundle. */
export function workflowRoutes(app: FastifyInstance, deps: WorkflowRouteDeps): void {
  const tag = 'workflows'
  const url = '/api/v1/compliance/workflows'
  const one = `${url}/:id`
  const resource = 'workflows'
  const nowMs = (): number => deps.clock().getTime()

  defineCall(
    app,
    deps,
    {
      method: 'GET',
      url,
      summary: 'Workflows, newest first',
      tag,
      permission: ['read', resource],
      query: ListQuery,
      answer: PageOf(Workflow),
    },
    ({ query: { cursor, limit = DEFAULT_LIMIT, status } }, request) => {
      const after = parseCursor(cursor)
      return read(deps, request, { action: 'read', resource }, async (client, { tenant }) => {
        const rows = await listWorkflows(client, tenant, { after, limit, status: status ?? null })
        return pageOf(rows, limit, ({ approved_by, ...row }) => present(row, approved_by, nowMs()))
      })
    },
  )

  defineCall(
    app,
    deps,
    {
      method: 'GET',
      url: one,
      summary: 'A workflow',
      tag,
      permission: ['read', resource],
      params: ById,
      answer: Workflow,
    },
    ({ params: { id } }, request) =>
      read(deps, request, { action: 'read', resource, id }, (client, { tenant }) => load(client, tenant, id)),
  )

  defineCall(
    app,
    deps,
    {
      method: 'GET',
      url: `${one}/history`,
      summary: 'Its changes of status, oldest first',
      tag,
      permission: ['read', resource],
      params: ById,
      answer: History,
    },
    ({ params: { id } }, request) =>
      read(deps, request, { action: 'read', resource, id }, async (client, { tenant }) => {
        found(await findWorkflow(client, tenant, id), 'workflow')
        const rows = await listTransitions(client, tenant, id)
        return { items: rows.map(({ created_at, ...row }) => ({ ...row, created_at: created_at.toISOString() })) }
      }),
  )

  defineCall(
    app,
    deps,
    {
      method: 'POST',
      url,
      summary: 'Begins a workflow, as a draft',
      tag,
      permission: ['write', resource],
      body: NewWorkflow,
      answer: Workflow,
      status: 201,
    },
    ({ body }, request) => {
      const { regulation, name, description = '', required_approvals = 1 } = body
      if (!deps.catalogs.has(regulation))
        throw new SignetError(
          'REQUEST_INVALID',
          `the body at /regulation names no regulation; allowed: ${[...deps.catalogs.keys()].join(', ')}`,
        )
      const due = body.due_at === undefined ? null : parseTime(body.due_at, '/due_at')
      const release = body.release === undefined ? null : normalized(body.release)
      if (release !== null) requireRelease(release, nowMs())
      const id = deps.newId()
      return write(
        deps,
        request,
        { action: 'write', resource, id },
        { regulation, name, release },
        async (client, { tenant, principal }) => {
          const row = await insertWorkflow(client, tenant, {
            id,
            kind: release === null ? 'review' : 'release',
            regulation,
            name,
            description,
            required_approvals,
            requested_by: principal.name,
            requester_kind: principal.kind,
            requester_id: principal.id,
            due_at: due,
            release,
            policy_id: null,
            policy_version: null,
          })
          return { result: present(row, [], nowMs()), before: null, after: logged(row) }
        },
      )
    },
  )

  defineCall(
    app,
    deps,
    {
      method: 'POST',
      url: `${one}/transition`,
      summary: 'Takes it on. Approving takes somebody else than who asked; it is approved once enough have',
      tag,
      permission: ['execute', resource],
      params: ById,
      body: Transition,
      answer: Workflow,
    },
    async ({ params: { id }, body: { status, comment = '', version } }, request) => {
      const result = await write(
        deps,
        request,
        { action: 'execute', resource, id },
        { status, comment },
        async (client, rights) => {
          const { tenant, principal } = rights
          const before = found(await findWorkflow(client, tenant, id, true), 'workflow')
          requireVersion(before, version)
          requireLegal(before, status)
          if (status === 'in_review' && before.release !== null) requireRelease(before.release, nowMs())
          const next = status === 'approved' ? await approve(client, rights, before, nowMs()) : status
          if (status === 'draft') await deleteApprovals(client, tenant, id)
          const row = await updateWorkflow(client, tenant, { id, status: next, paused: before.paused })
          await insertTransition(client, tenant, id, {
            id: deps.newId(),
            old_status: before.status,
            new_status: next,
            made_by: principal.name,
            comment:
              status === 'approved' && next !== 'approved'
                ? `approved, others have to as well. ${comment}`.trim()
                : comment,
          })
          return {
            result: await load(client, tenant, id),
            before: { old_status: before.status },
            after: {
              new_status: next,
              regulation: row.regulation,
              approved_by: await approversOf(client, tenant, id),
              comment,
            },
            eventType: 'compliance.workflow.status_changed',
            context: { old_status: before.status, new_status: next },
          }
        },
      )
      if (result.kind === 'release') deps.publisher.touch(principalOf(request).tenant)
      return result
    },
  )

  for (const [name, paused] of [
    ['pause', true],
    ['resume', false],
  ] as const)
    defineCall(
      app,
      deps,
      {
        method: 'POST',
        url: `${one}/${name}`,
        summary: paused ? 'Holds it where it is' : 'Lets it go on',
        tag,
        permission: ['pause', resource],
        params: ById,
        answer: Workflow,
      },
      ({ params: { id } }, request) => pause(request, id, paused),
    )

  function pause(request: FastifyRequest, id: string, paused: boolean): Promise<ReturnType<typeof present>> {
    return write(deps, request, { action: 'pause', resource, id }, { paused }, async (client, { tenant }) => {
      const before = found(await findWorkflow(client, tenant, id, true), 'workflow')
      if (before.paused === paused)
        throw new SignetError('CONFLICT', `this workflow is ${paused ? 'paused already' : 'not paused'}`)
      await updateWorkflow(client, tenant, { id, status: before.status, paused })
      return { result: await load(client, tenant, id), before: { paused: before.paused }, after: { paused } }
    })
  }

  async function load(client: Client, tenant: string, id: string): Promise<ReturnType<typeof present>> {
    const row = found(await findWorkflow(client, tenant, id), 'workflow')
    return present(row, await approversOf(client, tenant, id), nowMs())
  }
}

const OVERDUE: ReadonlySet<string> = new Set(['draft', 'in_review'])

function present(row: WorkflowRow, approvedBy: string[], nowMs: number) {
  const {
    requester_kind: _kind,
    requester_id: _id,
    policy_id,
    policy_version,
    due_at,
    created_at,
    updated_at,
    ...rest
  } = row
  return {
    ...rest,
    policy: policy_id === null || policy_version === null ? null : { id: policy_id, version: policy_version },
    overdue: due_at !== null && due_at.getTime() < nowMs && OVERDUE.has(row.status),
    approved_by: approvedBy,
    due_at: due_at?.toISOString() ?? null,
    created_at: created_at.toISOString(),
    updated_at: updated_at.toISOString(),
  }
}

function logged({ kind, regulation, name, status, release, required_approvals }: WorkflowRow) {
  return { kind, regulation, name, status, required_approvals, release: release === null ? null : { ...release } }
}
