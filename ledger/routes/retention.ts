import type { FastifyInstance } from 'fastify'
import Type from 'typebox'
import { Compile } from 'typebox/compile'
import { SignetError } from '#core/error/signet-error.ts'
import { parseStrict } from '#core/json/strict.ts'
import { className, MIN_HOT_DAYS, periodOf } from '#core/retention/period.ts'
import { REGULATION_PERIODS } from '#core/retention/regulation-periods.ts'
import { isWritable, type PublishedPolicy } from '#core/retention/published.ts'
import { checkRetentionObject } from '#core/rule/check.ts'
import type { RetentionPolicySpec } from '#core/rule/retention.ts'
import type { Authenticator } from '#runtime/identity/token.ts'
import { withTenant, type Pool } from '#runtime/postgres/transaction.ts'
import { holdsFor } from '../retention/holds.ts'
import type { RetentionDuty } from '../retention/duty.ts'
import { readMonths, readPurged, readSummary, readTenantMonths, type ClassMonth } from '../retention/months.ts'
import { policyChanged } from '../retention/notice.ts'
import {
  findPolicy,
  MAX_TENANT_POLICIES,
  published,
  readPolicies,
  removePolicy,
  savePolicy,
  type PolicyBook,
  type TenantPolicy,
} from '../retention/policies.ts'
import { presentReasons, type RetentionReports } from '../retention/report.ts'
import type { Sequencer } from '../sequencer.ts'
import { bodyOf, invalidBody, refuseEncoding } from './body.ts'
import { callerOf, requireIdentity, tenantOf } from './identity.ts'

export type RetentionRouteDeps = {
  readonly authenticator: Authenticator
  readonly wall: Pool
  readonly work: Pool
  readonly sequencer: Sequencer
  readonly clock: () => Date
  readonly book: PolicyBook
  readonly reports: RetentionReports
  readonly duty: () => RetentionDuty
}

const MAX_BODY_BYTES = 256 * 1024
const MAX_PURGES_SHOWN = 1_000
/** Each reads whole months. */
const MAX_CONCURRENT = 2

const PurgeBody = Compile(
  Type.Object(
    {
      dry_run: Type.Optional(Type.Boolean()),
      retention_class: Type.Optional(Type.String({ pattern: '^h[0-9]{1,8}_a[0-9]{1,8}(_never)?(_bare)?$' })),
      month: Type.Optional(Type.String({ pattern: '^\\d{4}-(0[1-9]|1[0-2])$' })),
    },
    { additionalProperties: false },
  ),
)

/** Retention policies, what is due, and purges: `docs/retention.md`. */
export function retentionRoutes(app: FastifyInstance, deps: RetentionRouteDeps): void {
  const { authenticator, wall, work, sequencer, clock, book, reports } = deps
  const mayRead = requireIdentity(authenticator, 'audit:read', 'audit:admin')
  const mayAct = requireIdentity(authenticator, 'audit:admin')
  let underWay = 0

  app.get('/api/audit/retention-policies', { onRequest: mayRead }, async (request, reply) => {
    const tenant = tenantOf(request)
    const own = (await readPolicies(work, tenant)).map(presentPolicy)
    const platform = (book.platform?.policies ?? [])
      .filter(({ selector }) => selector.tenants?.includes(tenant) ?? true)
      .map((policy) => ({ name: policy.name, source: 'operator', ...effectOf(policy) }))
    return reply.header('cache-control', 'no-store').send({ items: [...own, ...platform] })
  })

  app.get<Named>('/api/audit/retention-policies/:name', { onRequest: mayRead }, async (request, reply) => {
    const policy = await findPolicy(work, tenantOf(request), request.params.name)
    if (policy === null) throw new SignetError('NOT_FOUND', 'there is no retention policy of this name')
    return reply.header('cache-control', 'no-store').send(presentPolicy(policy))
  })

  app.put<Named>(
    '/api/audit/retention-policies/:name',
    { bodyLimit: MAX_BODY_BYTES, onRequest: mayAct },
    async (request, reply) => {
      refuseEncoding(request)
      const tenant = tenantOf(request)
      const { name } = request.params
      const spec = checkedSpec(tenant, name, parseStrict(bodyOf(request)))
      const before = await findPolicy(work, tenant, name)
      const policy: TenantPolicy = { tenant, name, spec, updatedAt: clock(), updatedBy: callerOf(request) }
      if (before === null && (await readPolicies(work, tenant)).length >= MAX_TENANT_POLICIES) throw tooMany()
      await sequencer.append(
        policyChanged(tenant, {
          source: 'api',
          name,
          policy: published(policy),
          by: policy.updatedBy,
          change: request.id,
        }),
      )
      if (!(await savePolicy(work, policy))) throw tooMany()
      await book.refresh()
      return reply
        .status(before === null ? 201 : 200)
        .header('cache-control', 'no-store')
        .send(presentPolicy(policy))
    },
  )

  app.delete<Named>('/api/audit/retention-policies/:name', { onRequest: mayAct }, async (request, reply) => {
    const tenant = tenantOf(request)
    const { name } = request.params
    if ((await findPolicy(work, tenant, name)) === null)
      throw new SignetError('NOT_FOUND', 'there is no retention policy of this name')
    const by = callerOf(request)
    await sequencer.append(policyChanged(tenant, { source: 'api', name, policy: null, by, change: request.id }))
    await removePolicy(work, tenant, name)
    await book.refresh()
    return reply.status(204).send()
  })

  app.get('/api/audit/retention', { onRequest: mayRead }, async (request, reply) => {
    const tenant = tenantOf(request)
    const months = await reports.monthsOf(tenant)
    const holds = await holdsFor(wall, tenant)
    const purged = await readPurged(wall, tenant, MAX_PURGES_SHOWN)
    const count = (state: string): number => months.filter((month) => month.state === state).length
    return reply.header('cache-control', 'no-store').send({
      due: count('due'),
      held: count('held'),
      blocked: count('blocked'),
      hot: count('hot'),
      never: count('never'),
      purged: purged.length,
      holds: holds.length,
      months,
    })
  })

  app.get('/api/audit/purges', { onRequest: mayRead }, async (request, reply) => {
    const tenant = tenantOf(request)
    const purged = await readPurged(wall, tenant, MAX_PURGES_SHOWN)
    const items = purged.map((each) => ({
      retention_class: each.retentionClass,
      month: each.month,
      first_seq: each.firstSeq,
      last_seq: each.lastSeq,
      records: each.records,
      recorded_at_seq: each.authorizedSeq,
      snapshot: each.snapshot,
      purged_at: each.purgedAt.toISOString(),
    }))
    return reply.header('cache-control', 'no-store').send({ items })
  })

  app.get<{ Params: { month: string } }>(
    '/api/audit/purges/:month/summary',
    { onRequest: mayRead },
    async (request, reply) => {
      const tenant = tenantOf(request)
      const { month } = request.params
      if (!/^\d{4}-(0[1-9]|1[0-2])$/.test(month))
        throw new SignetError('REQUEST_INVALID', 'a month has the form 2026-11')
      const items = await withTenant(wall, tenant, (client) => readSummary(client, tenant, `${month}-01`), {
        readOnly: true,
      })
      return reply.header('cache-control', 'no-store').send({ month, items })
    },
  )

  app.post('/api/audit/purges', { bodyLimit: MAX_BODY_BYTES, onRequest: mayAct }, async (request, reply) => {
    refuseEncoding(request)
    const tenant = tenantOf(request)
    const body = parseStrict(bodyOf(request))
    if (!PurgeBody.Check(body)) throw invalidBody(PurgeBody.Errors(body)[0])
    const { dry_run: dryRun = false, retention_class: retentionClass, month } = body
    if ((retentionClass === undefined) !== (month === undefined))
      throw new SignetError('REQUEST_INVALID', 'retention_class and month come together, or not at all')
    const only: ClassMonth | null =
      retentionClass === undefined || month === undefined ? null : { retentionClass, month: `${month}-01` }
    const gone = new AbortController()
    reply.raw.once('close', () => gone.abort())
    // Whose partitions these are shows before they are gone.
    const shown = await months(tenant, only)
    if (underWay >= MAX_CONCURRENT)
      throw new SignetError('LEDGER_BUSY', 'other purges are under way, or are being tried; try again shortly')
    underWay += 1
    const outcomes = await deps
      .duty()
      .purge({ dryRun, only, by: `${tenant}/${callerOf(request)}`, signal: gone.signal })
      .finally(() => {
        underWay -= 1
      })
    const items = outcomes
      .filter((each) => shown.has(`${each.retentionClass} ${each.month}`))
      .map((each) => ({
        retention_class: each.retentionClass,
        month: each.month,
        state: each.state,
        reasons: presentReasons(each.obstacles, tenant),
      }))
    return reply.header('cache-control', 'no-store').send({ dry_run: dryRun, items })
  })

  async function months(tenant: string, only: ClassMonth | null): Promise<ReadonlySet<string>> {
    const all = (await readMonths(wall)).filter(
      ({ retentionClass, month }) => only === null || (retentionClass === only.retentionClass && month === only.month),
    )
    const own = await withTenant(wall, tenant, (client) => readTenantMonths(client, tenant, all), { readOnly: true })
    return new Set(own.map((each) => `${each.retentionClass} ${each.month}`))
  }
}

type Named = { Params: { name: string } }

/** @throws SignetError RETENTION_POLICY_INVALID naming the place */
function checkedSpec(tenant: string, name: string, spec: unknown): RetentionPolicySpec {
  const [fault] = checkRetentionObject({ name, spec })
  if (fault !== undefined) throw invalid(`${fault.path} ${fault.message}`)
  if (!isWritable(spec)) throw invalid('spec holds a text that is no Unicode, or U+0000')
  const checked = spec as RetentionPolicySpec
  const tenants = checked.selector?.tenants
  if (tenants !== undefined && (tenants.length !== 1 || tenants[0] !== tenant))
    throw invalid(
      'spec.selector.tenants is for the platform: a policy put here is for your own tenant, and may leave it out',
    )
  const { hot_days: hotDays } = published({ tenant, name, spec: checked, updatedAt: new Date(0), updatedBy: '' })
  if (hotDays < MIN_HOT_DAYS)
    throw invalid(`spec.hot is ${hotDays} days; records stay in the database for at least ${MIN_HOT_DAYS}`)
  return checked
}

function invalid(what: string): SignetError {
  return new SignetError('RETENTION_POLICY_INVALID', `the retention policy is not valid: ${what}`)
}

function tooMany(): SignetError {
  return new SignetError('TOO_MANY_REQUESTS', `a tenant has at most ${MAX_TENANT_POLICIES} retention policies`)
}

function presentPolicy(policy: TenantPolicy): Record<string, unknown> {
  const { name, spec, updatedAt, updatedBy } = policy
  return {
    name,
    source: 'api',
    spec,
    updated_at: updatedAt.toISOString(),
    updated_by: updatedBy,
    ...effectOf(published(policy)),
  }
}

/** What the policy alone means for a record, and what regulations make of it. */
function effectOf(policy: PublishedPolicy): Record<string, unknown> {
  const { tenants, data_domains: domains, regions, frameworks } = policy.selector
  const traits = {
    tenant: tenants?.[0] ?? '',
    region: regions?.[0] ?? null,
    data_domain: domains?.[0] ?? null,
    frameworks: frameworks ?? [],
  }
  const plain = periodOf([policy], traits)
  const raised = Object.keys(REGULATION_PERIODS).flatMap((code) => {
    const period = periodOf([policy], { ...traits, frameworks: [...traits.frameworks, code] })
    if (period === null || plain === null) return []
    return period.hotDays > plain.hotDays || period.archiveDays > plain.archiveDays
      ? [{ regulation: code, hot_days: period.hotDays, archive_days: period.archiveDays }]
      : []
  })
  return {
    retention_class: plain === null ? null : className(plain),
    hot_days: plain?.hotDays ?? policy.hot_days,
    archive_days: plain?.archiveDays ?? policy.archive_days,
    raised_by: raised,
  }
}
