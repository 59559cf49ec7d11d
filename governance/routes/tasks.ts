import type { FastifyInstance } from 'fastify'
import Type from 'typebox'
import { SignetError } from '#core/error/signet-error.ts'
import type { Client } from '#runtime/postgres/transaction.ts'
import type { Rights } from '../actions/runner.ts'
import { defineCall, found, read, requireVersion, write, type CallDeps } from '../http/calls.ts'
import { ById, Id, Line, PageOf, Paging, Time, Version } from '../http/schemas.ts'
import { findServiceAccount, findUser } from '../store/access.ts'
import { DEFAULT_LIMIT, pageOf, parseCursor } from '../store/paging.ts'
import { findTask, findWorkflow, insertTask, listTasks, updateTask, type TaskRow } from '../store/workflows.ts'
import { parseTime } from '../workflows/time.ts'

const Task = Type.Object({
  id: Id,
  workflow_id: Id,
  title: Type.String(),
  assigned_to: Type.Union([Id, Type.Null()]),
  status: Type.Enum(['open', 'done']),
  due_at: Type.Union([Time, Type.Null()]),
  version: Type.Integer(),
  created_at: Time,
  updated_at: Time,
})
const ListQuery = Type.Object(
  { ...Paging, assigned_to: Type.Optional(Id), workflow_id: Type.Optional(Id) },
  { additionalProperties: false },
)
const NewTask = Type.Object(
  { workflow_id: Id, title: Line(300), assigned_to: Type.Optional(Id), due_at: Type.Optional(Time) },
  { additionalProperties: false },
)

/** Tasks: steps of workflows. Who may see their own only, sees what is assigned to them. */
export function taskRoutes(app: FastifyInstance, deps: CallDeps): void {
  const tag = 'workflows'
  const url = '/api/v1/compliance/tasks'
  const one = `${url}/:id`
  const resource = 'tasks'

  defineCall(
    app,
    deps,
    {
      method: 'GET',
      url,
      summary: 'Tasks, newest first',
      tag,
      permission: ['read', resource],
      query: ListQuery,
      answer: PageOf(Task),
    },
    ({ query: { cursor, limit = DEFAULT_LIMIT, assigned_to, workflow_id } }, request) => {
      const after = parseCursor(cursor)
      return read(
        deps,
        request,
        { action: 'read', resource, ownCounts: true },
        async (client, { tenant, extent, principal }) => {
          if (extent === 'own' && assigned_to !== undefined && assigned_to !== principal.id)
            return { items: [], next_cursor: null }
          const assignee = extent === 'own' ? principal.id : (assigned_to ?? null)
          return pageOf(
            await listTasks(client, tenant, { after, limit, assignee, workflowId: workflow_id ?? null }),
            limit,
            present,
          )
        },
      )
    },
  )

  defineCall(
    app,
    deps,
    {
      method: 'POST',
      url,
      summary: 'Adds a step to a workflow',
      tag,
      permission: ['write', 'workflows'],
      body: NewTask,
      answer: Task,
      status: 201,
    },
    ({ body: { workflow_id, title, assigned_to = null, due_at } }, request) => {
      const id = deps.newId()
      return write(
        deps,
        request,
        { action: 'write', resource: 'workflows', id: workflow_id },
        { task: title },
        async (client, { tenant }) => {
          const workflow = await findWorkflow(client, tenant, workflow_id, true)
          if (workflow === null) throw new SignetError('REQUEST_INVALID', 'the body at /workflow_id names no workflow')
          if (!['draft', 'in_review'].includes(workflow.status))
            throw new SignetError('CONFLICT', `this workflow is ${workflow.status}: it takes no more steps`)
          if (assigned_to !== null) await requireAssignee(client, tenant, assigned_to)
          const row = await insertTask(client, tenant, {
            id,
            workflow_id,
            title,
            assigned_to,
            due_at: due_at === undefined ? null : parseTime(due_at, '/due_at'),
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
      method: 'POST',
      url: `${one}/status`,
      summary: 'Says that it is done, or that it is not',
      tag,
      permission: ['execute', resource],
      params: ById,
      body: Type.Object(
        { status: Type.Enum(['open', 'done']), version: Type.Optional(Version) },
        { additionalProperties: false },
      ),
      answer: Task,
    },
    ({ params: { id }, body: { status, version } }, request) =>
      write(deps, request, { action: 'execute', resource, id, ownCounts: true }, { status }, async (client, rights) => {
        const before = await mine(client, rights, id)
        requireVersion(before, version)
        const row = await updateTask(client, rights.tenant, { ...before, status })
        return { result: present(row), before: logged(before), after: logged(row) }
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
      answer: Task,
    },
    ({ params: { id }, body: { assigned_to } }, request) =>
      write(deps, request, { action: 'assign', resource, id }, { assigned_to }, async (client, rights) => {
        const before = await mine(client, rights, id)
        if (assigned_to !== null) await requireAssignee(client, rights.tenant, assigned_to)
        const row = await updateTask(client, rights.tenant, { ...before, assigned_to })
        return { result: present(row), before: logged(before), after: logged(row) }
      }),
  )
}

async function mine(client: Client, { tenant, extent, principal }: Rights, id: string): Promise<TaskRow> {
  const row = found(await findTask(client, tenant, id, true), 'task')
  if (extent === 'own' && row.assigned_to !== principal.id) throw new SignetError('NOT_FOUND', 'there is no such task')
  return row
}

/** @throws SignetError REQUEST_INVALID */
export async function requireAssignee(client: Client, tenant: string, id: string): Promise<void> {
  const one = (await findUser(client, tenant, id, true)) ?? (await findServiceAccount(client, tenant, id, true))
  if (one === null || one.state !== 'active')
    throw new SignetError('REQUEST_INVALID', 'the body at /assigned_to names no active user or service account')
}

function present({ due_at, created_at, updated_at, ...row }: TaskRow) {
  return {
    ...row,
    due_at: due_at?.toISOString() ?? null,
    created_at: created_at.toISOString(),
    updated_at: updated_at.toISOString(),
  }
}

function logged({ title, workflow_id, assigned_to, status }: TaskRow) {
  return { title, workflow_id, assigned_to, status }
}
