import type { ComplianceRuleSpec } from './model.ts'

const MAX_TITLE_LENGTH = 200

/** A rule's title: the first line of its description, at most 200 characters. */
export function titleOf(spec: Pick<ComplianceRuleSpec, 'description'>): string {
  const line = spec.description.trim().split('\n', 1)[0]!.trim()
  const characters = Array.from(line)
  return characters.length <= MAX_TITLE_LENGTH ? line : `${characters.slice(0, MAX_TITLE_LENGTH - 1).join('')}…`
}
