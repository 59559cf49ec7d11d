import { isDeepStrictEqual } from 'node:util'
import type { RuleObject } from '#core/rule/model.ts'
import type { RetentionObject } from '#core/rule/retention.ts'

const MAX_WARNINGS = 5

/** What the strictest of two rules decides; the other's word is never stamped where both apply. */
const JOINED = [
  { name: 'classification', how: 'the higher one is stamped' },
  { name: 'approval', how: 'the stricter one is stamped' },
  { name: 'canonicalization', how: 'jcs is used' },
] as const

/** Rules that force something else than this one upon the same responses, in words. `others`: those that apply beside it. */
export function ruleConflicts(rule: RuleObject, others: Iterable<RuleObject>): string[] {
  const warnings: string[] = []
  if ((rule.spec.stage ?? 'egress') !== 'egress' || rule.spec.obligations === undefined) return warnings
  const match = normalised(rule.spec.match)
  for (const other of others) {
    if (warnings.length >= MAX_WARNINGS) break
    if (other.spec.obligations === undefined || (other.spec.stage ?? 'egress') !== 'egress') continue
    const clashes = JOINED.filter(({ name }) => {
      const [mine, theirs] = [rule.spec.obligations?.[name], other.spec.obligations?.[name]]
      return mine !== undefined && theirs !== undefined && mine !== theirs
    })
    if (clashes.length === 0 || !isDeepStrictEqual(match, normalised(other.spec.match))) continue
    for (const { name, how } of clashes)
      warnings.push(
        `rule ${other.name} has the same match and asks for ${name} ${other.spec.obligations[name]}, this one for ${rule.spec.obligations[name]}: ${how}`,
      )
  }
  return warnings.slice(0, MAX_WARNINGS)
}

/** Policies that keep the same records for other times. */
export function retentionConflicts(policy: RetentionObject, others: Iterable<RetentionObject>): string[] {
  const warnings: string[] = []
  const selector = normalised(policy.spec.selector)
  for (const other of others) {
    if (warnings.length >= MAX_WARNINGS) break
    if (!isDeepStrictEqual(selector, normalised(other.spec.selector))) continue
    const { hot, archive } = policy.spec
    if (other.spec.hot !== hot || other.spec.archive !== archive)
      warnings.push(
        `policy ${other.name} selects the same records and keeps them ${other.spec.hot} and ${other.spec.archive}, this one ${hot} and ${archive}: the longest times win`,
      )
  }
  return warnings
}

/** Lists are sets here, and none is all. */
function normalised(value: object | undefined): object {
  return Object.fromEntries(
    Object.entries(value ?? {})
      .filter(([, member]) => member !== undefined)
      .map(([name, member]) => [name, Array.isArray(member) ? member.map(String).sort() : member]),
  )
}
