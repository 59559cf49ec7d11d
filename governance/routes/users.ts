import type { FastifyInstance } from 'fastify'
import Type from 'typebox'
import type { Client } from '#runtime/postgres/transaction.ts'
import { SignetError } from '#core/error/signet-error.ts'
import { hashPassword } from '../access/password.ts'
import { requireAdministrator } from '../access/administrators.ts'
import { requireAtLeast } from '../access/principal.ts'
import { defineCall, found, read, requireVersion, write, type CallDeps } from '../http/calls.ts'
import { ById, Id, Line, PageOf, PageQuery, Password, Time, Version } from '../http/schemas.ts'
import {
  findUser,
  insertUser,
  listUsers,
  revokeTokensOf,
  setPassword,
  updateUser,
  type UserRow,
} from '../store/access.ts'
import { DEFAULT_LIMIT, pageOf, parseCursor } from '../store/paging.ts'

const User = Type.Object({
  id: Id,
  email: Type.String(),
  name: Type.String(),
  state: Type.Enum(['active', 'disabled']),
  mfa_enabled: Type.Boolean(),
  version: Type.Integer(),
  created_at: Time,
  updated_at: Time,
})
/** RFC 5321 lengths; whether it exists only a letter can tell. */
export const Email = Type.String({
  minLength: 3,
  maxLength: 254,
  pattern: '^[^\\s@\\x00-\\x1f]{1,64}@[^\\s@\\x00-\\x1f]+$',
})
const NewUser = Type.Object(
  { email: Email, name: Line(200), password: Type.Optional(Password) },
  { additionalProperties: false },
)
const UserChange = Type.Object(
  {
    name: Type.Optional(Line(200)),
    state: Type.Optional(Type.Enum(['active', 'disabled'])),
    mfa_enabled: Type.Optional(Type.Boolean()),
    password: Type.Optional(Password),
    version: Type.Optional(Version),
  },
  { additionalProperties: false, minProperties: 1 },
)

export function userRoutes(app: FastifyInstance, deps: CallDeps): void {
  const tag = 'users'
  const url = '/api/v1/users'
  const one = `${url}/:id`

  defineCall(
    app,
    deps,
    {
      method: 'GET',
      url,
      summary: 'Users, newest first',
      tag,
      permission: ['read', 'users'],
      query: PageQuery,
      answer: PageOf(User),
    },
    ({ query: { cursor, limit = DEFAULT_LIMIT } }, request) => {
      const where = { cursor: parseCursor(cursor), limit }
      return read(deps, request, { action: 'read', resource: 'users' }, async (client, { tenant }) =>
        pageOf(await listUsers(client, tenant, where), limit, present),
      )
    },
  )

  defineCall(
    app,
    deps,
    { method: 'GET', url: one, summary: 'A user', tag, permission: ['read', 'users'], params: ById, answer: User },
    ({ params: { id } }, request) =>
      read(deps, request, { action: 'read', resource: 'users', id }, async (client, { tenant }) =>
        present(found(await findUser(client, tenant, id), 'user')),
      ),
  )

  defineCall(
    app,
    deps,
    {
      method: 'POST',
      url,
      summary: 'Makes a user, without a role',
      tag,
      permission: ['write', 'users'],
      body: NewUser,
      answer: User,
      status: 201,
    },
    async ({ body: { email, name, password } }, request) => {
      const id = deps.newId()
      const hash = password === undefined ? null : await hashPassword(password)
      const wanted = { email, name, password: password !== undefined }
      return write(deps, request, { action: 'write', resource: 'users', id }, wanted, async (client, { tenant }) => {
        const row = await insertUser(client, tenant, { id, email, name, password: hash })
        if (row === null) throw new SignetError('CONFLICT', 'there is a user with this e-mail address already')
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
      summary:
        'Changes a user. Disabled, or with another password, they lose their sessions; disabled, their tokens as well',
      tag,
      permission: ['write', 'users'],
      params: ById,
      body: UserChange,
      answer: User,
    },
    async ({ params: { id }, body: { password, version, ...change } }, request) => {
      const hash = password === undefined ? null : await hashPassword(password)
      const wanted = { ...change, password: password !== undefined }
      return write(deps, request, { action: 'write', resource: 'users', id }, wanted, async (client, rights) => {
        const { tenant } = rights
        const before = found(await findUser(client, tenant, id, true), 'user')
        requireVersion(before, version)
        if (hash !== null || change.state !== undefined) await requireAtLeast(client, rights, { kind: 'user', id })
        if (hash !== null) await setPassword(client, tenant, id, hash)
        const after = await updateUser(client, tenant, id, { ...before, ...change })
        await endAccess(client, tenant, id, { disabled: after.state === 'disabled', password: hash !== null })
        await requireAdministrator(client, tenant)
        return { result: present(after), before: logged(before), after: logged(after) }
      })
    },
  )
}

async function endAccess(
  client: Client,
  tenant: string,
  id: string,
  why: { disabled: boolean; password: boolean },
): Promise<void> {
  const owner = { kind: 'user', id } as const
  if (why.disabled) await revokeTokensOf(client, tenant, owner, { kind: 'all' })
  else if (why.password) await revokeTokensOf(client, tenant, owner, { kind: 'session' })
}

function present(row: UserRow) {
  return { ...row, created_at: row.created_at.toISOString(), updated_at: row.updated_at.toISOString() }
}

function logged({ email, name, state, mfa_enabled }: UserRow) {
  return { email, name, state, mfa_enabled }
}
