import type { FastifyInstance } from 'fastify'
import Type from 'typebox'
import { SignetError } from '#core/error/signet-error.ts'
import { requireAdministrator } from '../access/administrators.ts'
import { requireAtLeast } from '../access/principal.ts'
import { defineCall, found, read, requireVersion, write, type CallDeps } from '../http/calls.ts'
import { ById, Id, PageOf, PageQuery, Text, Time, Version } from '../http/schemas.ts'
import {
  findServiceAccount,
  insertServiceAccount,
  listServiceAccounts,
  revokeTokensOf,
  updateServiceAccount,
  type ServiceAccountRow,
} from '../store/access.ts'
import { DEFAULT_LIMIT, pageOf, parseCursor } from '../store/paging.ts'

const ServiceAccount = Type.Object({
  id: Id,
  name: Type.String(),
  description: Type.String(),
  state: Type.Enum(['active', 'disabled']),
  version: Type.Integer(),
  created_at: Time,
  updated_at: Time,
})
const NewServiceAccount = Type.Object(
  {
    name: Type.String({
      pattern: '^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$',
      description: 'Lower case, digits and hyphens.',
    }),
    description: Type.Optional(Text(1_000)),
  },
  { additionalProperties: false },
)
const ServiceAccountChange = Type.Object(
  {
    description: Type.Optional(Text(1_000)),
    state: Type.Optional(Type.Enum(['active', 'disabled'])),
    version: Type.Optional(Version),
  },
  { additionalProperties: false, minProperties: 1 },
)

export function serviceAccountRoutes(app: FastifyInstance, deps: CallDeps): void {
  const tag = 'service accounts'
  const url = '/api/v1/service-accounts'
  const one = `${url}/:id`
  const resource = 'service-accounts'

  defineCall(
    app,
    deps,
    {
      method: 'GET',
      url,
      summary: 'Service accounts, newest first',
      tag,
      permission: ['read', resource],
      query: PageQuery,
      answer: PageOf(ServiceAccount),
    },
    ({ query: { cursor, limit = DEFAULT_LIMIT } }, request) => {
      const where = { cursor: parseCursor(cursor), limit }
      return read(deps, request, { action: 'read', resource }, async (client, { tenant }) =>
        pageOf(await listServiceAccounts(client, tenant, where), limit, present),
      )
    },
  )

  defineCall(
    app,
    deps,
    {
      method: 'GET',
      url: one,
      summary: 'A service account',
      tag,
      permission: ['read', resource],
      params: ById,
      answer: ServiceAccount,
    },
    ({ params: { id } }, request) =>
      read(deps, request, { action: 'read', resource, id }, async (client, { tenant }) =>
        present(found(await findServiceAccount(client, tenant, id), 'service account')),
      ),
  )

  defineCall(
    app,
    deps,
    {
      method: 'POST',
      url,
      summary: 'Makes a service account, without a role and without a token',
      tag,
      permission: ['write', resource],
      body: NewServiceAccount,
      answer: ServiceAccount,
      status: 201,
    },
    ({ body: { name, description = '' } }, request) => {
      const id = deps.newId()
      return write(
        deps,
        request,
        { action: 'write', resource, id },
        { name, description },
        async (client, { tenant }) => {
          const row = await insertServiceAccount(client, tenant, { id, name, description })
          if (row === null) throw new SignetError('CONFLICT', 'there is a service account of this name already')
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
      summary: 'Changes a service account. Disabled, it loses its tokens',
      tag,
      permission: ['write', resource],
      params: ById,
      body: ServiceAccountChange,
      answer: ServiceAccount,
    },
    ({ params: { id }, body: { version, ...change } }, request) =>
      write(deps, request, { action: 'write', resource, id }, change, async (client, rights) => {
        const { tenant } = rights
        const before = found(await findServiceAccount(client, tenant, id, true), 'service account')
        requireVersion(before, version)
        if (change.state !== undefined) await requireAtLeast(client, rights, { kind: 'service_account', id })
        const after = await updateServiceAccount(client, tenant, id, { ...before, ...change })
        if (after.state === 'disabled')
          await revokeTokensOf(client, tenant, { kind: 'service_account', id }, { kind: 'all' })
        await requireAdministrator(client, tenant)
        return { result: present(after), before: logged(before), after: logged(after) }
      }),
  )
}

function present(row: ServiceAccountRow) {
  return { ...row, created_at: row.created_at.toISOString(), updated_at: row.updated_at.toISOString() }
}

function logged({ name, description, state }: ServiceAccountRow) {
  return { name, description, state }
}
