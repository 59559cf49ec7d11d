import type { FastifyInstance } from 'fastify'
import Type from 'typebox'
import { SignetError } from '#core/error/signet-error.ts'
import type { Client } from '#runtime/postgres/transaction.ts'
import { requireAdministrator } from '../access/administrators.ts'
import { Permission } from '../access/permission.ts'
import { requireHeld, type PrincipalKind as Kind } from '../access/principal.ts'
import { defineCall, found, read, requireVersion, write, type CallDeps } from '../http/calls.ts'
import { ById, Id, ListOf, PrincipalKind, Text, Time, Version } from '../http/schemas.ts'
import {
  deleteBinding,
  deleteRole,
  findBinding,
  findRole,
  findServiceAccount,
  findUser,
  insertBinding,
  insertRole,
  listBindings,
  listRoles,
  replacePermissions,
  updateRole,
  type BindingRow,
  type RoleRow,
} from '../store/access.ts'

const Role = Type.Object({
  id: Id,
  name: Type.String(),
  description: Type.String(),
  shipped: Type.Boolean(),
  permissions: Type.Array(Permission),
  version: Type.Integer(),
  created_at: Time,
  updated_at: Time,
})
const Permissions = Type.Array(Permission, { maxItems: 200 })
const RoleName = Type.String({ pattern: '^[A-Za-z][A-Za-z0-9 _-]{0,62}[A-Za-z0-9]$' })
const NewRole = Type.Object(
  { name: RoleName, description: Type.Optional(Text(1_000)), permissions: Permissions },
  { additionalProperties: false },
)
const RoleChange = Type.Object(
  {
    description: Type.Optional(Text(1_000)),
    permissions: Type.Optional(Permissions),
    version: Type.Optional(Version),
  },
  { additionalProperties: false, minProperties: 1 },
)
const Binding = Type.Object({
  id: Id,
  role_id: Id,
  role: Type.String(),
  principal_kind: PrincipalKind,
  principal_id: Id,
  created_at: Time,
})
const NewBinding = Type.Object(
  { role_id: Id, principal_kind: PrincipalKind, principal_id: Id },
  { additionalProperties: false },
)
const BindingQuery = Type.Object(
  { principal_kind: Type.Optional(PrincipalKind), principal_id: Type.Optional(Id) },
  { additionalProperties: false },
)

/** Roles, and who has them. Nobody gives a permission that they do not have themselves. */
export function roleRoutes(app: FastifyInstance, deps: CallDeps): void {
  const tag = 'roles'
  const url = '/api/v1/roles'
  const one = `${url}/:id`
  const resource = 'roles'

  defineCall(
    app,
    deps,
    {
      method: 'GET',
      url,
      summary: 'Roles with their permissions: those that are shipped, then by name',
      tag,
      permission: ['read', resource],
      answer: ListOf(Role),
    },
    (_input, request) =>
      read(deps, request, { action: 'read', resource }, async (client, { tenant }) => ({
        items: (await listRoles(client, tenant)).map(presentRole),
      })),
  )

  defineCall(
    app,
    deps,
    { method: 'GET', url: one, summary: 'A role', tag, permission: ['read', resource], params: ById, answer: Role },
    ({ params: { id } }, request) =>
      read(deps, request, { action: 'read', resource, id }, async (client, { tenant }) =>
        presentRole(found(await findRole(client, tenant, id), 'role')),
      ),
  )

  defineCall(
    app,
    deps,
    {
      method: 'POST',
      url,
      summary: 'Makes a role',
      tag,
      permission: ['write', resource],
      body: NewRole,
      answer: Role,
      status: 201,
    },
    ({ body }, request) => {
      const id = deps.newId()
      const { name, description = '', permissions } = body
      requireDistinct(permissions)
      return write(deps, request, { action: 'write', resource, id }, body, async (client, rights) => {
        requireHeld(rights.principal, rights.permissions, permissions)
        const { tenant } = rights
        if (!(await insertRole(client, tenant, { id, name, description, shipped: false })))
          throw new SignetError('CONFLICT', 'there is a role of this name already')
        await replacePermissions(client, tenant, id, permissions)
        const row = found(await findRole(client, tenant, id), 'role')
        return { result: presentRole(row), before: null, after: loggedRole(row) }
      })
    },
  )

  defineCall(
    app,
    deps,
    {
      method: 'PATCH',
      url: one,
      summary: 'Changes a role of your own',
      tag,
      permission: ['write', resource],
      params: ById,
      body: RoleChange,
      answer: Role,
    },
    ({ params: { id }, body: { version, ...change } }, request) => {
      if (change.permissions !== undefined) requireDistinct(change.permissions)
      return write(deps, request, { action: 'write', resource, id }, change, async (client, rights) => {
        const { tenant } = rights
        const before = await findOwnRole(client, tenant, id)
        requireVersion(before, version)
        if (change.permissions !== undefined) {
          requireHeld(rights.principal, rights.permissions, change.permissions)
          await replacePermissions(client, tenant, id, change.permissions)
        }
        await updateRole(client, tenant, id, change.description ?? before.description)
        await requireAdministrator(client, tenant)
        const after = found(await findRole(client, tenant, id), 'role')
        return { result: presentRole(after), before: loggedRole(before), after: loggedRole(after) }
      })
    },
  )

  defineCall(
    app,
    deps,
    {
      method: 'DELETE',
      url: one,
      summary: 'Deletes a role of your own, and takes it from all who have it',
      tag,
      permission: ['delete', resource],
      params: ById,
      answer: null,
    },
    ({ params: { id } }, request) =>
      write(deps, request, { action: 'delete', resource, id }, null, async (client, { tenant }) => {
        const before = await findOwnRole(client, tenant, id)
        await deleteRole(client, tenant, id)
        await requireAdministrator(client, tenant)
        return { result: undefined, before: loggedRole(before), after: null }
      }),
  )

  bindingRoutes(app, deps)
}

function bindingRoutes(app: FastifyInstance, deps: CallDeps): void {
  const tag = 'roles'
  const url = '/api/v1/role-bindings'
  const one = `${url}/:id`
  const resource = 'roles'

  defineCall(
    app,
    deps,
    {
      method: 'GET',
      url,
      summary: 'Who has which role',
      tag,
      permission: ['read', resource],
      query: BindingQuery,
      answer: ListOf(Binding),
    },
    ({ query: { principal_kind: kind, principal_id: principalId } }, request) => {
      if ((kind === undefined) !== (principalId === undefined))
        throw new SignetError('REQUEST_INVALID', 'the parameters principal_kind and principal_id go together')
      const principal = kind === undefined || principalId === undefined ? null : { kind, id: principalId }
      return read(deps, request, { action: 'read', resource }, async (client, { tenant }) => ({
        items: (await listBindings(client, tenant, principal)).map(presentBinding),
      }))
    },
  )

  defineCall(
    app,
    deps,
    {
      method: 'POST',
      url,
      summary: 'Gives somebody a role',
      tag,
      permission: ['assign', resource],
      body: NewBinding,
      answer: Binding,
      status: 201,
    },
    ({ body }, request) => {
      const id = deps.newId()
      const { role_id: roleId, principal_kind: kind, principal_id: principalId } = body
      return write(deps, request, { action: 'assign', resource, id: roleId }, body, async (client, rights) => {
        const { tenant } = rights
        const role = await findRole(client, tenant, roleId, true)
        if (role === null) throw new SignetError('REQUEST_INVALID', 'the body at /role_id names no role')
        requireHeld(rights.principal, rights.permissions, role.permissions)
        await requirePrincipal(client, tenant, kind, principalId)
        if (!(await insertBinding(client, tenant, { id, roleId, kind, principalId })))
          throw new SignetError('CONFLICT', 'they have this role already')
        const row = found(await findBinding(client, tenant, id), 'binding')
        return { result: presentBinding(row), before: null, after: loggedBinding(row) }
      })
    },
  )

  defineCall(
    app,
    deps,
    {
      method: 'DELETE',
      url: one,
      summary: 'Takes a role from somebody; holds for what they are doing now',
      tag,
      permission: ['assign', resource],
      params: ById,
      answer: null,
    },
    ({ params: { id } }, request) =>
      write(deps, request, { action: 'assign', resource, id }, null, async (client, { tenant }) => {
        const before = found(await findBinding(client, tenant, id), 'binding')
        await deleteBinding(client, tenant, id)
        await requireAdministrator(client, tenant)
        return { result: undefined, before: loggedBinding(before), after: null }
      }),
  )
}

async function findOwnRole(client: Client, tenant: string, id: string): Promise<RoleRow> {
  const role = found(await findRole(client, tenant, id, true), 'role')
  if (role.shipped)
    throw new SignetError('CONFLICT', `the role ${role.name} is shipped with Signet; make one of your own beside it`)
  return role
}

function requireDistinct(permissions: readonly Permission[]): void {
  const names = new Set(permissions.map(({ action, resource }) => `${action}:${resource}`))
  if (names.size !== permissions.length)
    throw new SignetError(
      'REQUEST_INVALID',
      'the body at /permissions names the same action on the same resource twice',
    )
}

async function requirePrincipal(client: Client, tenant: string, kind: Kind, id: string): Promise<void> {
  const row =
    kind === 'user' ? await findUser(client, tenant, id, true) : await findServiceAccount(client, tenant, id, true)
  if (row === null)
    throw new SignetError('REQUEST_INVALID', `the body at /principal_id names no ${kind.replace('_', ' ')}`)
}

function presentRole(row: RoleRow) {
  return { ...row, created_at: row.created_at.toISOString(), updated_at: row.updated_at.toISOString() }
}

function loggedRole({ name, description, permissions }: RoleRow) {
  return { name, description, permissions }
}

function presentBinding(row: BindingRow) {
  return { ...row, created_at: row.created_at.toISOString() }
}

function loggedBinding({ role, principal_kind, principal_id }: BindingRow) {
  return { role, principal_kind, principal_id }
}
