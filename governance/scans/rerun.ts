import { SignetError } from '#core/error/signet-error.ts'
import { withTenant } from '#runtime/postgres/transaction.ts'
import { findRule } from '../store/rules.ts'
import { findResult } from '../store/scans.ts'
import { makeScan, type MadeScan, type ScanDeps } from './scan.ts'

/**
 * Applies the rule of a result again, to the facts as they are now: of the same user, or of the organisation. What was given with the first scan is not
 * believed again. @returns a scan with that one result, not stored yet
 * @throws SignetError NOT_FOUND (the result), CONFLICT (its rule is gone; the user is gone), what `makeScan` throws
 */
export async function rerunRule(deps: ScanDeps, tenant: string, resultId: string, by: string): Promise<MadeScan> {
  const { result, rule } = await withTenant(
    deps.pool,
    tenant,
    async (client) => {
      const found = await findResult(client, tenant, resultId)
      if (found === null) throw new SignetError('NOT_FOUND', 'there is no such result')
      return { result: found, rule: await findRule(client, tenant, found.rule_id) }
    },
    { readOnly: true },
  )
  if (rule === null) throw new SignetError('CONFLICT', `the rule ${result.rule_id} is not there any more`)
  const made = await makeScan(deps, {
    tenant,
    orgId: result.org_id,
    ruleIds: [rule.id],
    given: {},
    trigger: 'manual',
    by,
    ...(result.user_id === null ? {} : { userId: result.user_id }),
  })
  const results = made.results.filter(({ user_id }) => user_id === result.user_id)
  const [one] = results
  if (one === undefined) throw new SignetError('CONFLICT', 'what the result is about is not there any more')
  return { results, scan: { ...made.scan, passed: one.passed ? 1 : 0, failed: one.passed ? 0 : 1 } }
}
