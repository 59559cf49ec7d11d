import type { FastifyInstance } from 'fastify'
import Type from 'typebox'
import { SignetError } from '#core/error/signet-error.ts'
import type { JsonObject } from '#core/json/value.ts'
import { RULE_NAME_PATTERN } from '#core/rule/model.ts'
import { defineCall, found, principalOf, read, requireVersion, write, type CallDeps } from '../http/calls.ts'
import { ById, Id, Line, ListOf, PageOf, Paging, Time, Version } from '../http/schemas.ts'
import { loggedScan, makeScan, requireRules, storeScan } from '../scans/scan.ts'
import { nextRun, requireCron } from '../scans/schedule.ts'
import type { Scanner } from '../scans/scanner.ts'
import { DEFAULT_LIMIT, pageOf, parseCursor } from '../store/paging.ts'
import { rulesToScan } from '../store/rules.ts'
import {
  countSchedules,
  deleteSchedule,
  findSchedule,
  insertSchedule,
  listSchedules,
  updateSchedule,
  type ScheduleRow,
} from '../store/schedules.ts'
import { findScan, listResults, listScans, onlyIn, type ResultRow, type ScanRow } from '../store/scans.ts'

const MAX_SCHEDULES = 100
const MAX_DIFFERENCES = 1_000

const OrgId = { ...Line(200), description: 'Whose scan it is: the tenant, or a part of it that you name.' }
const RuleIds = Type.Array(Type.String({ pattern: RULE_NAME_PATTERN }), {
  minItems: 1,
  maxItems: 1_000,
  uniqueItems: true,
})
const NewScan = Type.Object(
  {
    org_id: Type.Optional(OrgId),
    rule_ids: Type.Optional({ ...RuleIds, description: 'All that are active where left out.' }),
    facts: Type.Optional(
      Type.Record(Type.String({ pattern: '^[a-z][a-z0-9_]{0,63}$' }), Type.Unknown(), {
        maxProperties: 64,
        additionalProperties: false,
        description: 'Facts in place of those that would be gathered, by name: {"user": {"mfa_enabled": true}}.',
      }),
    ),
  },
  { additionalProperties: false },
)
const Scan = Type.Object({
  id: Id,
  org_id: Type.String(),
  trigger: Type.Enum(['manual', 'schedule']),
  requested_by: Type.String(),
  rule_ids: Type.Union([Type.Array(Type.String()), Type.Null()]),
  given_facts: Type.Array(Type.String()),
  problems: Type.Record(Type.String(), Type.String(), { description: 'Facts that could not be had, and why.' }),
  passed: Type.Integer(),
  failed: Type.Integer(),
  started_at: Time,
  created_at: Time,
})
const Result = Type.Object({
  id: Id,
  scan_id: Id,
  org_id: Type.String(),
  rule_id: Type.String(),
  user_id: Type.Union([Id, Type.Null()]),
  finding: Type.String(),
  severity: Type.String(),
  compliance_framework: Type.String(),
  details: Type.Record(Type.String(), Type.Unknown(), { description: '`facts`: what the rule looked at, as it was.' }),
  passed: Type.Boolean(),
  created_at: Time,
})
const ScanQuery = Type.Object(
  { ...Paging, org_id: Type.Optional(Type.String({ maxLength: 200 })) },
  { additionalProperties: false },
)
const ResultQuery = Type.Object({ ...Paging, passed: Type.Optional(Type.Boolean()) }, { additionalProperties: false })
const Failure = Type.Object({
  rule_id: Type.String(),
  user_id: Type.Union([Id, Type.Null()]),
  finding: Type.String(),
  severity: Type.String(),
})
const Differences = Type.Object({
  appeared: Type.Array(Failure, { description: `Fails here and did not there; ${MAX_DIFFERENCES} at most.` }),
  disappeared: Type.Array(Failure),
})
const Cron = Type.String({
  minLength: 9,
  maxLength: 100,
  description: 'Five fields, in UTC: `0 3 * * *`; every five minutes at most.',
})
const NewSchedule = Type.Object(
  { org_id: Type.Optional(OrgId), cron: Cron, rule_ids: Type.Optional(RuleIds) },
  { additionalProperties: false },
)
const ScheduleChange = Type.Object(
  { cron: Type.Optional(Cron), is_active: Type.Optional(Type.Boolean()), version: Type.Optional(Version) },
  { additionalProperties: false, minProperties: 1 },
)
const Schedule = Type.Object({
  id: Id,
  org_id: Type.String(),
  cron: Type.String(),
  rule_ids: Type.Union([Type.Array(Type.String()), Type.Null()]),
  is_active: Type.Boolean(),
  next_at: Time,
  last_scan: Type.Union([Id, Type.Null()]),
  last_error: Type.Union([Type.String(), Type.Null()]),
  version: Type.Integer(),
  created_at: Time,
})

/** Scans: rules applied to facts, at once or on a schedule. */
export function scanRoutes(app: FastifyInstance, deps: CallDeps & { readonly scanner: Scanner }): void {
  const tag = 'scans'
  const url = '/api/scans'
  const one = `${url}/:id`
  const resource = 'scans'

  defineCall(
    app,
    deps,
    {
      method: 'POST',
      url,
      summary: 'Scans now',
      tag,
      permission: ['execute', resource],
      body: NewScan,
      answer: Scan,
      status: 201,
    },
    async ({ body: { org_id, rule_ids, facts = {} } }, request) => {
      const { tenant, name } = principalOf(request)
      const target = { action: 'execute', resource } as const
      await read(deps, request, target, async () => undefined)
      const made = await makeScan(deps, {
        tenant,
        orgId: org_id ?? tenant,
        ruleIds: rule_ids ?? null,
        given: facts as JsonObject,
        trigger: 'manual',
        by: name,
      })
      const { id } = made.scan
      const wanted = { org_id: made.scan.org_id, rule_ids: rule_ids?.slice(0, 100) ?? null, facts: Object.keys(facts) }
      return write(deps, request, { ...target, id }, wanted, async (client) => {
        const opened = await storeScan(client, tenant, made, deps)
        return {
          result: presentScan(found(await findScan(client, tenant, id), 'scan')),
          before: null,
          after: loggedScan(made, opened),
        }
      })
    },
  )

  defineCall(
    app,
    deps,
    {
      method: 'GET',
      url,
      summary: 'Scans, newest first',
      tag,
      permission: ['read', resource],
      query: ScanQuery,
      answer: PageOf(Scan),
    },
    ({ query: { cursor, limit = DEFAULT_LIMIT, org_id } }, request) => {
      const after = parseCursor(cursor)
      return read(deps, request, { action: 'read', resource }, async (client, { tenant }) =>
        pageOf(await listScans(client, tenant, { after, limit, orgId: org_id ?? null }), limit, presentScan),
      )
    },
  )

  defineCall(
    app,
    deps,
    { method: 'GET', url: one, summary: 'A scan', tag, permission: ['read', resource], params: ById, answer: Scan },
    ({ params: { id } }, request) =>
      read(deps, request, { action: 'read', resource, id }, async (client, { tenant }) =>
        presentScan(found(await findScan(client, tenant, id), 'scan')),
      ),
  )

  defineCall(
    app,
    deps,
    {
      method: 'GET',
      url: `${one}/results`,
      summary: 'What a scan found',
      tag,
      permission: ['read', resource],
      params: ById,
      query: ResultQuery,
      answer: PageOf(Result),
    },
    ({ params: { id }, query: { cursor, limit = DEFAULT_LIMIT, passed } }, request) => {
      const after = parseCursor(cursor)
      return read(deps, request, { action: 'read', resource, id }, async (client, { tenant }) => {
        found(await findScan(client, tenant, id), 'scan')
        return pageOf(
          await listResults(client, tenant, id, { after, limit, passed: passed ?? null }),
          limit,
          presentResult,
        )
      })
    },
  )

  defineCall(
    app,
    deps,
    {
      method: 'GET',
      url: `${one}/differences`,
      summary: 'Failures that a scan has and another has not, and the other way about',
      tag,
      permission: ['read', resource],
      params: ById,
      query: Type.Object({ against: Id }, { additionalProperties: false }),
      answer: Differences,
    },
    ({ params: { id }, query: { against } }, request) =>
      read(deps, request, { action: 'read', resource, id }, async (client, { tenant }) => {
        found(await findScan(client, tenant, id), 'scan')
        found(await findScan(client, tenant, against), 'scan to compare with')
        return {
          appeared: await onlyIn(client, tenant, id, against, MAX_DIFFERENCES),
          disappeared: await onlyIn(client, tenant, against, id, MAX_DIFFERENCES),
        }
      }),
  )

  scheduleRoutes(app, deps)
}

function scheduleRoutes(app: FastifyInstance, deps: CallDeps): void {
  const tag = 'scans'
  const url = '/api/scan-schedules'
  const one = `${url}/:id`
  const resource = 'scans'

  defineCall(
    app,
    deps,
    {
      method: 'GET',
      url,
      summary: 'Schedules of scans',
      tag,
      permission: ['read', resource],
      answer: ListOf(Schedule),
    },
    (_input, request) =>
      read(deps, request, { action: 'read', resource }, async (client, { tenant }) => ({
        items: (await listSchedules(client, tenant)).map(presentSchedule),
      })),
  )

  defineCall(
    app,
    deps,
    {
      method: 'POST',
      url,
      summary: 'Scans again and again',
      tag,
      permission: ['write', resource],
      body: NewSchedule,
      answer: Schedule,
      status: 201,
    },
    ({ body: { org_id, cron, rule_ids = null } }, request) => {
      requireCron(cron)
      const id = deps.newId()
      return write(deps, request, { action: 'write', resource, id }, { cron, rule_ids }, async (client, { tenant }) => {
        if ((await countSchedules(client, tenant)) >= MAX_SCHEDULES)
          throw new SignetError('POLICY_LIMIT', `there are ${MAX_SCHEDULES} schedules already, as many as there may be`)
        requireRules(rule_ids, await rulesToScan(client, tenant, rule_ids))
        const row = await insertSchedule(client, tenant, {
          id,
          org_id: org_id ?? tenant,
          cron,
          rule_ids,
          next_at: nextRun(cron, deps.clock()),
        })
        return { result: presentSchedule(row), before: null, after: { cron, rule_ids } }
      })
    },
  )

  defineCall(
    app,
    deps,
    {
      method: 'PATCH',
      url: one,
      summary: 'Changes a schedule',
      tag,
      permission: ['write', resource],
      params: ById,
      body: ScheduleChange,
      answer: Schedule,
    },
    ({ params: { id }, body: { version, ...change } }, request) => {
      if (change.cron !== undefined) requireCron(change.cron)
      return write(deps, request, { action: 'write', resource, id }, change, async (client, { tenant }) => {
        const before = found(await findSchedule(client, tenant, id, true), 'schedule')
        requireVersion(before, version)
        const cron = change.cron ?? before.cron
        const row = await updateSchedule(client, tenant, {
          id,
          cron,
          is_active: change.is_active ?? before.is_active,
          next_at: nextRun(cron, deps.clock()),
        })
        return {
          result: presentSchedule(row),
          before: { cron: before.cron, is_active: before.is_active },
          after: { cron: row.cron, is_active: row.is_active },
        }
      })
    },
  )

  defineCall(
    app,
    deps,
    {
      method: 'DELETE',
      url: one,
      summary: 'Ends a schedule',
      tag,
      permission: ['write', resource],
      params: ById,
      answer: null,
    },
    ({ params: { id } }, request) =>
      write(deps, request, { action: 'write', resource, id }, null, async (client, { tenant }) => {
        const before = found(await findSchedule(client, tenant, id, true), 'schedule')
        await deleteSchedule(client, tenant, id)
        return { result: undefined, before: { cron: before.cron }, after: null }
      }),
  )
}

function presentScan({ started_at, created_at, ...row }: ScanRow) {
  return { ...row, started_at: started_at.toISOString(), created_at: created_at.toISOString() }
}

function presentResult({ created_at, ...row }: ResultRow) {
  return { ...row, details: { ...row.details } as Record<string, unknown>, created_at: created_at.toISOString() }
}

function presentSchedule({ next_at, created_at, ...row }: ScheduleRow) {
  return { ...row, next_at: next_at.toISOString(), created_at: created_at.toISOString() }
}
