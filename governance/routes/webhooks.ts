import { randomBytes } from 'node:crypto'
import type { FastifyInstance } from 'fastify'
import Type from 'typebox'
import { SignetError } from '#core/error/signet-error.ts'
import { ACTIONS, RESOURCES } from '../access/permission.ts'
import type { SecretBox } from '../connectors/sealed-secret.ts'
import { defineCall, found, read, requireVersion, write, type CallDeps } from '../http/calls.ts'
import { ById, Id, ListOf, PageOf, Paging, Text, Time, Version } from '../http/schemas.ts'
import { DEFAULT_LIMIT, pageOf, parseCursor } from '../store/paging.ts'
import {
  countWebhooks,
  deleteWebhook,
  findWebhook,
  insertWebhook,
  listDeliveries,
  listWebhooks,
  replaceSecret,
  reviveDeliveries,
  updateWebhook,
  type DeliveryRow,
  type WebhookRow,
} from '../store/webhooks.ts'

const MAX_WEBHOOKS = 50
const SECRET_BYTES = 32

const Url = Type.String({ pattern: '^https?://[!-~]+$', maxLength: 2_000, description: 'https, to a public address.' })
const Events = Type.Array(Type.String({ pattern: `^(${RESOURCES.join('|')})\\.(${ACTIONS.join('|')}|\\*)$` }), {
  maxItems: 100,
  uniqueItems: true,
  description: 'What it is told of: `workflows.execute`, `violations.*`; empty: everything that is done.',
})
const State = Type.Enum(['active', 'disabled'])
const Webhook = Type.Object({
  id: Id,
  url: Type.String(),
  description: Type.String(),
  events: Type.Array(Type.String()),
  state: State,
  version: Type.Integer(),
  created_at: Time,
  updated_at: Time,
})
const MadeWebhook = Type.Object({
  ...Webhook.properties,
  secret: Type.String({ description: 'What messages are signed with (Standard Webhooks); shown once.' }),
})
const NewWebhook = Type.Object(
  { url: Url, description: Type.Optional(Text(500)), events: Type.Optional(Events) },
  { additionalProperties: false },
)
const Change = Type.Object(
  {
    url: Type.Optional(Url),
    description: Type.Optional(Text(500)),
    events: Type.Optional(Events),
    state: Type.Optional(State),
    version: Type.Optional(Version),
  },
  { additionalProperties: false, minProperties: 1 },
)
const Status = Type.Enum(['pending', 'delivered', 'dead'])
const Delivery = Type.Object({
  id: Id,
  webhook_id: Id,
  event_type: Type.String(),
  status: Status,
  tries: Type.Integer(),
  next_at: Time,
  last_reason: Type.Union([Type.String(), Type.Null()]),
  created_at: Time,
  ended_at: Type.Union([Time, Type.Null()]),
})
const DeliveryQuery = Type.Object({ ...Paging, status: Type.Optional(Status) }, { additionalProperties: false })

/** Webhooks: other systems are told what was done, signed, again and again until they take it. */
export function webhookRoutes(app: FastifyInstance, deps: CallDeps & { readonly secrets: SecretBox | null }): void {
  const tag = 'webhooks'
  const url = '/api/v1/webhooks'
  const one = `${url}/:id`
  const resource = 'connectors'

  defineCall(
    app,
    deps,
    { method: 'GET', url, summary: 'Webhooks', tag, permission: ['read', resource], answer: ListOf(Webhook) },
    (_input, request) =>
      read(deps, request, { action: 'read', resource }, async (client, { tenant }) => ({
        items: (await listWebhooks(client, tenant)).map(present),
      })),
  )

  defineCall(
    app,
    deps,
    {
      method: 'GET',
      url: one,
      summary: 'A webhook',
      tag,
      permission: ['read', resource],
      params: ById,
      answer: Webhook,
    },
    ({ params: { id } }, request) =>
      read(deps, request, { action: 'read', resource, id }, async (client, { tenant }) =>
        present(found(await findWebhook(client, tenant, id), 'webhook')),
      ),
  )

  defineCall(
    app,
    deps,
    {
      method: 'POST',
      url,
      summary: 'Makes a webhook',
      tag,
      permission: ['write', resource],
      body: NewWebhook,
      answer: MadeWebhook,
      status: 201,
    },
    ({ body: { url: to, description = '', events = [] } }, request) => {
      const id = deps.newId()
      return write(
        deps,
        request,
        { action: 'write', resource, id },
        { url: withoutQuery(to), events },
        async (client, { tenant }) => {
          if ((await countWebhooks(client, tenant)) >= MAX_WEBHOOKS)
            throw new SignetError('POLICY_LIMIT', `there are ${MAX_WEBHOOKS} webhooks already, as many as there may be`)
          const { secret, sealed } = newSecret(tenant, id)
          const row = await insertWebhook(client, tenant, { id, url: to, description, events, secret: sealed })
          return { result: { ...present(row), secret }, before: null, after: logged(row) }
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
      summary: 'Changes a webhook',
      tag,
      permission: ['write', resource],
      params: ById,
      body: Change,
      answer: Webhook,
    },
    ({ params: { id }, body: { version, ...change } }, request) =>
      write(
        deps,
        request,
        { action: 'write', resource, id },
        { changes: Object.keys(change) },
        async (client, { tenant }) => {
          const before = found(await findWebhook(client, tenant, id, true), 'webhook')
          requireVersion(before, version)
          const row = await updateWebhook(client, tenant, { ...before, ...change })
          return { result: present(row), before: logged(before), after: logged(row) }
        },
      ),
  )

  defineCall(
    app,
    deps,
    {
      method: 'POST',
      url: `${one}/secret`,
      summary: 'Gives it another secret; the former one signs nothing any more',
      tag,
      permission: ['write', resource],
      params: ById,
      answer: MadeWebhook,
    },
    ({ params: { id } }, request) =>
      write(deps, request, { action: 'write', resource, id }, { secret: 'new' }, async (client, { tenant }) => {
        found(await findWebhook(client, tenant, id, true), 'webhook')
        const { secret, sealed } = newSecret(tenant, id)
        await replaceSecret(client, tenant, id, sealed)
        const row = found(await findWebhook(client, tenant, id), 'webhook')
        return { result: { ...present(row), secret }, before: null, after: { secret: 'new' } }
      }),
  )

  defineCall(
    app,
    deps,
    {
      method: 'DELETE',
      url: one,
      summary: 'Deletes a webhook, and what it was not told yet',
      tag,
      permission: ['write', resource],
      params: ById,
      answer: null,
    },
    ({ params: { id } }, request) =>
      write(deps, request, { action: 'write', resource, id }, null, async (client, { tenant }) => {
        const before = found(await findWebhook(client, tenant, id, true), 'webhook')
        await deleteWebhook(client, tenant, id)
        return { result: undefined, before: logged(before), after: null }
      }),
  )

  defineCall(
    app,
    deps,
    {
      method: 'GET',
      url: `${one}/deliveries`,
      summary: 'What it was told, and what it would not take',
      tag,
      permission: ['read', resource],
      params: ById,
      query: DeliveryQuery,
      answer: PageOf(Delivery),
    },
    ({ params: { id }, query: { cursor, limit = DEFAULT_LIMIT, status } }, request) => {
      const after = parseCursor(cursor)
      return read(deps, request, { action: 'read', resource, id }, async (client, { tenant }) => {
        found(await findWebhook(client, tenant, id), 'webhook')
        return pageOf(
          await listDeliveries(client, tenant, id, { after, limit, status: status ?? null }),
          limit,
          presentDelivery,
        )
      })
    },
  )

  defineCall(
    app,
    deps,
    {
      method: 'POST',
      url: `${one}/retry`,
      summary: 'Tries its dead letters again',
      tag,
      permission: ['execute', resource],
      params: ById,
      answer: Type.Object({ revived: Type.Integer() }),
    },
    ({ params: { id } }, request) =>
      write(deps, request, { action: 'execute', resource, id }, { do: 'retry' }, async (client, { tenant }) => {
        found(await findWebhook(client, tenant, id, true), 'webhook')
        const revived = await reviveDeliveries(client, tenant, id)
        return { result: { revived }, before: null, after: { revived } }
      }),
  )

  function newSecret(tenant: string, connectorId: string): { secret: string; sealed: Buffer } {
    if (deps.secrets === null)
      throw new SignetError(
        'CONNECTOR_FAILED',
        'this governance has no key for secrets (SIGNET_GOVERNANCE_SECRETS_KEY_FILE)',
      )
    const secret = `whsec_${randomBytes(SECRET_BYTES).toString('base64')}`
    return { secret, sealed: deps.secrets.seal({ tenant, connectorId }, secret) }
  }
}

/** What comes after a `?` is often a secret. */
function withoutQuery(url: string): string {
  return url.replace(/\?.*/, '?…')
}

function present({ created_at, updated_at, ...row }: WebhookRow) {
  return { ...row, created_at: created_at.toISOString(), updated_at: updated_at.toISOString() }
}

function presentDelivery({ next_at, created_at, ended_at, ...row }: DeliveryRow) {
  return {
    ...row,
    next_at: next_at.toISOString(),
    created_at: created_at.toISOString(),
    ended_at: ended_at?.toISOString() ?? null,
  }
}

function logged({ url, events, state }: WebhookRow) {
  return { url: withoutQuery(url), events: [...events], state }
}
