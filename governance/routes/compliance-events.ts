import type { FastifyInstance } from 'fastify'
import Type from 'typebox'
import { Compile } from 'typebox/compile'
import { firstFault } from '#core/error/schema-fault.ts'
import { SignetError } from '#core/error/signet-error.ts'
import type { JsonObject } from '#core/json/value.ts'
import { SEVERITIES } from '#core/policy/decision.ts'
import { requireExtent } from '../access/principal.ts'
import type { BundlePublisher } from '../bundles/publisher.ts'
import { gatherReference, judgeEvent, SEVERITY_RANKS, subjectOf, type EventRules } from '../events/judge.ts'
import { recheck } from '../events/recheck.ts'
import { REFERENCE_KIND_NAMES, REFERENCE_KINDS, SOURCES } from '../events/reference-kinds.ts'
import { defineCall, found, principalOf, read, write, type CallDeps } from '../http/calls.ts'
import { ById, Id, Text, Time } from '../http/schemas.ts'
import type { EndpointObserver } from '../resolution/endpoint.ts'
import { observeViolation, recheckEndpoint } from '../resolution/repair.ts'
import { strategyOf, type ChosenStrategies } from '../resolution/strategies.ts'
import { liftBlocksOf } from '../store/blocks.ts'
import {
  countCompliance,
  deleteReference,
  findEvent,
  findReference,
  findViolation,
  insertEvent,
  insertViolation,
  listReference,
  listUnresolved,
  putReference,
  setViolation,
  type ReferenceRow,
  type ViolationCursor,
  type ViolationRow,
} from '../store/compliance.ts'
import { DEFAULT_LIMIT, MAX_LIMIT } from '../store/paging.ts'
import { findSettings } from '../store/resolution.ts'

export type ComplianceRouteDeps = CallDeps & {
  readonly eventRules: EventRules
  readonly onViolation: (tenant: string) => void
  readonly publisher: BundlePublisher
  readonly observer: EndpointObserver
}

const MAX_DETAILS = 64 * 1024
const EventType = Type.String({ pattern: '^[a-z][a-z0-9_.-]{0,99}$' })
const Violation = Type.Object({
  id: Id,
  event_id: Id,
  rule: Type.String(),
  severity: Type.Enum(SEVERITIES),
  subject: Type.Union([Type.String(), Type.Null()]),
  summary: Type.String(),
  state: Type.Enum(['open', 'contained', 'resolved']),
  strategy: Type.String({ description: 'How Signet would resolve it by itself.' }),
  resolved_by: Type.Union([Type.String(), Type.Null()]),
  resolved_at: Type.Union([Time, Type.Null()]),
  resolution: Type.Union([Type.Record(Type.String(), Type.Unknown()), Type.Null()]),
  created_at: Time,
})
const NewEvent = Type.Object(
  {
    source: Type.Enum(SOURCES),
    eventType: EventType,
    details: Type.Record(Type.String({ maxLength: 200 }), Type.Unknown(), { maxProperties: 100 }),
  },
  { additionalProperties: false },
)
const ListQuery = Type.Object(
  {
    cursor: Type.Optional(Type.String({ maxLength: 200, description: '`next_cursor` of the page before.' })),
    limit: Type.Optional(Type.Integer({ minimum: 1, maximum: MAX_LIMIT, default: DEFAULT_LIMIT })),
  },
  { additionalProperties: false },
)
const Resolve = Type.Object(
  {
    comment: { ...Text(4_000), minLength: 1, description: 'Why it is resolved.' },
    override: Type.Optional(
      Type.Boolean({ description: 'Although the rule still finds it; takes override:violations.' }),
    ),
  },
  { additionalProperties: false },
)
const Kind = Type.Enum(REFERENCE_KIND_NAMES)
const ByKind = Type.Object({ kind: Kind })
const Key = Type.String({ minLength: 1, maxLength: 300, pattern: '^[^\\x00-\\x1f\\x7f]+$' })
const ByKey = Type.Object({ kind: Kind, key: Key })
const Reference = Type.Object({
  kind: Type.String(),
  key: Type.String(),
  value: Type.Record(Type.String(), Type.Unknown()),
  version: Type.Integer(),
  updated_by: Type.String(),
  created_at: Time,
  updated_at: Time,
})
const validators = new Map(REFERENCE_KIND_NAMES.map((kind) => [kind, Compile(REFERENCE_KINDS[kind])]))

/** Compliance events, what the shipped rules find in them, and how that ends. */
export function complianceEventRoutes(app: FastifyInstance, deps: ComplianceRouteDeps): void {
  const tag = 'violations'

  defineCall(
    app,
    deps,
    {
      method: 'POST',
      url: '/api/compliance/event',
      summary: 'Reports an event; it is judged by what is recorded here, not by what it says of itself',
      tag,
      permission: ['write', 'events'],
      body: NewEvent,
      answer: Type.Object({ id: Id, violations: Type.Array(Violation) }),
      status: 201,
    },
    async ({ body: { source, eventType, details: given } }, request) => {
      const details = given as JsonObject
      if (JSON.stringify(details).length > MAX_DETAILS)
        throw new SignetError('PAYLOAD_TOO_LARGE', `the body at /details is larger than ${MAX_DETAILS} bytes`)
      const id = deps.newId()
      const { subject, amount } = subjectOf(source, details)
      const wanted = { source, event_type: eventType, subject }
      let found = 0
      const result = await write(
        deps,
        request,
        { action: 'write', resource: 'events', id },
        wanted,
        async (client, { tenant, principal }) => {
          const event = await insertEvent(client, tenant, {
            id,
            source,
            event_type: eventType,
            subject,
            amount,
            details,
            made_by: principal.name,
          })
          const reference = await gatherReference(client, tenant, event, deps.eventRules)
          const violations: ViolationRow[] = []
          for (const { rule, severity, summary } of await judgeEvent(deps.eventRules, event, reference))
            violations.push(
              await insertViolation(client, tenant, {
                id: deps.newId(),
                event_id: id,
                rule,
                severity,
                severity_rank: SEVERITY_RANKS[severity],
                subject,
                summary,
              }),
            )
          found = violations.length
          const after = {
            source,
            event_type: eventType,
            violations: violations.map(({ id: one, rule, severity }) => ({ id: one, rule, severity })),
          }
          const { strategies } = await findSettings(client, tenant)
          const shown = violations.map((violation) => present(violation, strategies))
          return { result: { id, violations: shown, tenant }, before: null, after }
        },
      )
      if (found > 0) deps.onViolation(result.tenant)
      return { id: result.id, violations: result.violations }
    },
  )

  defineCall(
    app,
    deps,
    {
      method: 'GET',
      url: '/api/compliance/violations',
      summary: 'Violations that are not resolved, the worst first',
      tag,
      permission: ['read', 'violations'],
      query: ListQuery,
      answer: Type.Object({ items: Type.Array(Violation), next_cursor: Type.Union([Type.String(), Type.Null()]) }),
    },
    ({ query: { cursor, limit = DEFAULT_LIMIT } }, request) => {
      const after = parseRankCursor(cursor)
      return read(deps, request, { action: 'read', resource: 'violations' }, async (client, { tenant }) => {
        const rows = await listUnresolved(client, tenant, { after, limit })
        const { strategies } = await findSettings(client, tenant)
        const shown = rows.slice(0, limit)
        const last = shown.at(-1)
        return {
          items: shown.map((row) => present(row, strategies)),
          next_cursor: rows.length > limit && last !== undefined ? rankCursor(last) : null,
        }
      })
    },
  )

  defineCall(
    app,
    deps,
    {
      method: 'GET',
      url: '/api/compliance/violations/:id',
      summary: 'A violation',
      tag,
      permission: ['read', 'violations'],
      params: ById,
      answer: Violation,
    },
    ({ params: { id } }, request) =>
      read(deps, request, { action: 'read', resource: 'violations', id }, async (client, { tenant }) => {
        const row = found(await findViolation(client, tenant, id), 'violation')
        return present(row, (await findSettings(client, tenant)).strategies)
      }),
  )

  defineCall(
    app,
    deps,
    {
      method: 'POST',
      url: '/api/compliance/resolve/:id',
      summary: 'A person resolves a violation: once the rule finds it no more, or although it does',
      tag,
      permission: ['execute', 'violations'],
      params: ById,
      body: Resolve,
      answer: Violation,
    },
    async ({ params: { id }, body: { comment, override = false } }, request) => {
      const target = { action: 'execute', resource: 'violations', id } as const
      const about = await read(deps, request, target, async (client, { tenant }) => {
        const violation = found(await findViolation(client, tenant, id), 'violation')
        return { violation, event: found(await findEvent(client, tenant, violation.event_id), 'event') }
      })
      // An endpoint is looked at itself: what was reported once does not say how it answers now.
      const observed = await observeViolation(deps, principalOf(request).tenant, about.violation, about.event)
      const { result, lifted } = await write(deps, request, target, { comment, override }, async (client, rights) => {
        const { tenant, principal, permissions } = rights
        const before = found(await findViolation(client, tenant, id, true), 'violation')
        if (before.state === 'resolved') throw new SignetError('CONFLICT', 'this violation is resolved already')
        if (override) requireExtent(principal, permissions, { action: 'override', resource: 'violations' })
        const now = deps.clock()
        const { holds, detail } =
          observed?.kind === 'observed'
            ? await recheckEndpoint(client, tenant, { ...observed, event: about.event, now }, deps.eventRules)
            : await recheck(client, tenant, before, deps.eventRules)
        if (holds && !override)
          throw new SignetError(
            'CONFLICT',
            `${before.rule} still finds it: ${detail}; mend it, or say override and why`,
          )
        const row = await setViolation(client, tenant, id, {
          state: 'resolved',
          by: principal.name,
          resolution: { by: 'person', comment, override, still_found: holds },
          now,
        })
        // What proxies held back for it passes again.
        const blocks = await liftBlocksOf(client, tenant, id, { by: principal.name, comment, now })
        return {
          result: {
            result: present(row, (await findSettings(client, tenant)).strategies),
            lifted: blocks.length > 0,
          },
          before: { state: before.state },
          after: {
            state: row.state,
            rule: row.rule,
            comment,
            override,
            still_found: holds,
            lifted_blocks: blocks.map((one) => one.id),
          },
        }
      })
      if (lifted) deps.publisher.touch(principalOf(request).tenant)
      return result
    },
  )

  defineCall(
    app,
    deps,
    {
      method: 'GET',
      url: '/api/compliance/stats',
      summary: 'How many there are',
      tag,
      permission: ['read', 'violations'],
      answer: Type.Object({
        totalEvents: Type.Integer(),
        totalViolations: Type.Integer(),
        unresolvedCount: Type.Integer(),
        bySeverity: Type.Record(Type.String(), Type.Integer()),
      }),
    },
    (_input, request) =>
      read(deps, request, { action: 'read', resource: 'violations' }, async (client, { tenant }) => {
        const { bySeverity, ...counts } = await countCompliance(client, tenant)
        const all = Object.fromEntries(SEVERITIES.map((severity) => [severity, bySeverity[severity] ?? 0]))
        return { ...counts, bySeverity: all }
      }),
  )

  referenceRoutes(app, deps)
}

function referenceRoutes(app: FastifyInstance, deps: CallDeps): void {
  const tag = 'violations'
  const url = '/api/compliance/reference/:kind'
  const one = `${url}/:key`
  const resource = 'violations'

  defineCall(
    app,
    deps,
    {
      method: 'GET',
      url,
      summary: 'Records that events are judged by, by key',
      tag,
      permission: ['read', resource],
      params: ByKind,
      query: Type.Object(
        { cursor: Type.Optional(Key), limit: ListQuery.properties.limit },
        { additionalProperties: false },
      ),
      answer: Type.Object({ items: Type.Array(Reference), next_cursor: Type.Union([Type.String(), Type.Null()]) }),
    },
    ({ params: { kind }, query: { cursor, limit = DEFAULT_LIMIT } }, request) =>
      read(deps, request, { action: 'read', resource }, async (client, { tenant }) => {
        const rows = await listReference(client, tenant, kind, { after: cursor ?? null, limit })
        const shown = rows.slice(0, limit)
        return {
          items: shown.map(presentReference),
          next_cursor: rows.length > limit ? (shown.at(-1)?.key ?? null) : null,
        }
      }),
  )

  defineCall(
    app,
    deps,
    {
      method: 'PUT',
      url: one,
      summary: 'Records what events are judged by',
      tag,
      permission: ['write', resource],
      params: ByKey,
      body: Type.Record(Type.String({ maxLength: 100 }), Type.Unknown(), { maxProperties: 20 }),
      answer: Reference,
    },
    ({ params: { kind, key }, body }, request) => {
      const validator = validators.get(kind)!
      if (!validator.Check(body)) {
        const { path, allowed } = firstFault(validator.Errors(body))
        throw new SignetError('REQUEST_INVALID', `the body at ${path}: ${allowed}`)
      }
      const value = body as JsonObject
      return write(
        deps,
        request,
        { action: 'write', resource, id: `${kind}/${key}` },
        { kind, key, value },
        async (client, { tenant, principal }) => {
          const before = await findReference(client, tenant, kind, key)
          const row = await putReference(client, tenant, { kind, key, value, updated_by: principal.name })
          return {
            result: presentReference(row),
            before: before === null ? null : { value: before.value },
            after: { kind, key, value },
          }
        },
      )
    },
  )

  defineCall(
    app,
    deps,
    {
      method: 'DELETE',
      url: one,
      summary: 'Takes a record away',
      tag,
      permission: ['write', resource],
      params: ByKey,
      answer: null,
    },
    ({ params: { kind, key } }, request) =>
      write(
        deps,
        request,
        { action: 'write', resource, id: `${kind}/${key}` },
        { kind, key },
        async (client, { tenant }) => {
          const before = found(await findReference(client, tenant, kind, key), 'record')
          await deleteReference(client, tenant, kind, key)
          return { result: undefined, before: { value: before.value }, after: null }
        },
      ),
  )
}

function present(row: ViolationRow, chosen: ChosenStrategies) {
  const { severity_rank: _rank, resolved_at, created_at, resolution, ...rest } = row
  return {
    ...rest,
    strategy: strategyOf(row.rule, chosen),
    resolution: resolution === null ? null : ({ ...resolution } as Record<string, unknown>),
    resolved_at: resolved_at?.toISOString() ?? null,
    created_at: created_at.toISOString(),
  }
}

function presentReference({ value, created_at, updated_at, ...row }: ReferenceRow) {
  return {
    ...row,
    value: { ...value } as Record<string, unknown>,
    created_at: created_at.toISOString(),
    updated_at: updated_at.toISOString(),
  }
}

const RANK_CURSOR = /^r1:([1-4]):(\d{1,15}):([0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12})$/

function rankCursor({ severity_rank, created_at, id }: ViolationRow): string {
  return Buffer.from(`r1:${severity_rank}:${created_at.getTime()}:${id}`).toString('base64url')
}

/** @throws SignetError REQUEST_INVALID */
function parseRankCursor(cursor: string | undefined): ViolationCursor | null {
  if (cursor === undefined) return null
  const [, rank, ms, id] = RANK_CURSOR.exec(Buffer.from(cursor, 'base64url').toString('latin1')) ?? []
  if (rank === undefined || ms === undefined || id === undefined || Number(ms) > 253_402_300_799_999)
    throw new SignetError('REQUEST_INVALID', 'the parameter cursor is not one that this service gave out')
  return { rank: Number(rank), at: new Date(Number(ms)), id }
}
