import { SignetError } from '#core/error/signet-error.ts'
import type { JsonObject } from '#core/json/value.ts'
import { withTenant, type Client, type Pool } from '#runtime/postgres/transaction.ts'
import { dueAt } from '../remediation/status.ts'
import type { Rule } from '../rules/rule.ts'
import { openRemediations } from '../store/remediation.ts'
import { rulesToScan } from '../store/rules.ts'
import { insertResults, insertScan, type NewResult, type ScanRow } from '../store/scans.ts'
import type { Scanner } from './scanner.ts'

export type ScanRequest = {
  readonly tenant: string
  readonly orgId: string
  /** Null: all that are active. */
  readonly ruleIds: readonly string[] | null
  /** Facts in place of what would be gathered. */
  readonly given: JsonObject
  readonly trigger: 'manual' | 'schedule'
  readonly by: string
  /** This user alone. */
  readonly userId?: string
}
export type ScanDeps = {
  readonly pool: Pool
  readonly scanner: Scanner
  readonly newId: () => string
  readonly clock: () => Date
}
/** A scan that was made and is not stored yet. */
export type MadeScan = { readonly scan: Omit<ScanRow, 'created_at'>; readonly results: readonly NewResult[] }

/** Applies the rules; changes nothing. @throws SignetError REQUEST_INVALID (a rule that is not there, too much), and what `Scanner.scan` throws */
export async function makeScan(deps: ScanDeps, request: ScanRequest): Promise<MadeScan> {
  const { tenant, orgId, ruleIds, given, trigger, by, userId } = request
  const startedAt = deps.clock()
  const rules = await withTenant(deps.pool, tenant, (client) => rulesToScan(client, tenant, ruleIds), {
    readOnly: true,
  })
  requireRules(ruleIds, rules)
  if (rules.length === 0) throw new SignetError('REQUEST_INVALID', 'there is no active rule to scan with')
  const { found, problems } = await deps.scanner.scan(tenant, rules, given, userId)
  const results = found.map(({ rule, userId, passed, finding, details }): NewResult => ({
    id: deps.newId(),
    rule_id: rule.id,
    user_id: userId,
    finding,
    severity: rule.severity,
    compliance_framework: rule.framework,
    details: {
      facts: details,
      event: rule.event.type,
      ...(rule.event.params === undefined ? {} : { params: rule.event.params }),
    },
    passed,
  }))
  const passed = results.filter((result) => result.passed).length
  return {
    scan: {
      id: deps.newId(),
      org_id: orgId,
      trigger,
      requested_by: by,
      rule_ids: ruleIds === null ? null : [...ruleIds],
      given_facts: Object.keys(given).sort(),
      problems: { ...problems },
      passed,
      failed: results.length - passed,
      started_at: startedAt,
    },
    results,
  }
}

/** @throws SignetError REQUEST_INVALID: one that is asked for is not there */
export function requireRules(ruleIds: readonly string[] | null, rules: readonly Pick<Rule, 'id'>[]): void {
  const there = new Set(rules.map(({ id }) => id))
  const missing = ruleIds?.find((id) => !there.has(id))
  if (missing !== undefined)
    throw new SignetError('REQUEST_INVALID', `the body at /rule_ids names ${missing}, which is no rule`)
}

/** Stores a scan, and opens an action for each failure, in the transaction of `client`. @returns how many are new */
export async function storeScan(
  client: Client,
  tenant: string,
  { scan, results }: MadeScan,
  deps: Pick<ScanDeps, 'newId' | 'clock'>,
): Promise<number> {
  await insertScan(client, tenant, scan)
  await insertResults(client, tenant, scan, results)
  const nowMs = deps.clock().getTime()
  const failed = results.filter(({ passed }) => !passed)
  return openRemediations(
    client,
    tenant,
    failed.map(({ id, rule_id, user_id, severity, finding }) => ({
      id: deps.newId(),
      result_id: id,
      rule_id,
      user_id,
      severity,
      finding,
      due_at: dueAt(severity, nowMs).toISOString(),
      history_id: deps.newId(),
    })),
    scan.requested_by,
  )
}

/** What the log has of a scan. */
export function loggedScan({ scan, results }: MadeScan, opened: number) {
  const failed = results.filter(({ passed }) => !passed)
  return {
    org_id: scan.org_id,
    trigger: scan.trigger,
    passed: scan.passed,
    failed: scan.failed,
    remediation_opened: opened,
    failures: failed.slice(0, 50).map(({ rule_id, user_id, severity }) => ({ rule_id, user_id, severity })),
  }
}
