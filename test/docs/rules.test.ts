import { readFileSync } from 'node:fs'
import path from 'node:path'
import { describe, expect, it } from 'vitest'
import { parse } from 'yaml'
import { DecisionInput } from '#core/policy/decision.ts'
import { checkRetentionObject, checkRuleObject } from '#core/rule/check.ts'
import { OPERATORS } from '#core/rule/condition.ts'
import { FACTS } from '#core/rule/fact.ts'
import { rulesReference, RULES_REFERENCE_PATH } from '#tools/generate-rules-reference.ts'

const GUIDE = readFileSync(path.resolve(import.meta.dirname, '../../docs/write-a-rule.md'), 'utf8')
const REFERENCE = readFileSync(RULES_REFERENCE_PATH, 'utf8')

type Schema = { type?: string; properties?: Record<string, Schema>; anyOf?: Schema[]; enum?: unknown[] }

/** Dotted paths of all members of a schema that are no objects with known members. */
function leavesOf(schema: Schema, at = ''): string[] {
  const objects = [schema, ...(schema.anyOf ?? [])].filter((each) => each.properties !== undefined)
  if (objects.length === 0) return [at]
  return objects.flatMap(({ properties }) =>
    Object.entries(properties ?? {}).flatMap(([name, member]) => leavesOf(member, at === '' ? name : `${at}.${name}`)),
  )
}

describe('docs/reference/rules.md', () => {
  it('is what `node tools/generate-rules-reference.ts` writes', () => {
    expect(REFERENCE).toBe(rulesReference())
  })

  it('has every operator and every fact, and a fact for every member of the input', () => {
    for (const name of OPERATORS) expect(REFERENCE).toContain(`| \`${name}\` |`)
    for (const { path: fact } of FACTS) expect(REFERENCE).toContain(`| \`${fact}\` |`)
    const shown = new Set(
      FACTS.flatMap(({ path: fact, names }) => {
        if (!fact.startsWith('response.facts.')) return [fact.replace(/\.(\{name\}|\*\*)$/, '')]
        return (names ?? []).map((name) => fact.replace('{name}', name))
      }),
    )
    const members = leavesOf(DecisionInput as unknown as Schema)
    expect(members.filter((member) => !shown.has(member))).toEqual(['stage', 'approvals', 'blocks'])
    expect([...shown].filter((fact) => !members.includes(fact))).toEqual([])
  })

  it('shows objects that are valid', () => {
    const [policy] = [...REFERENCE.matchAll(/```yaml\n([^]*?)```/g)]
      .map(([, text]) => parse(text!) as { kind?: string; metadata: { name: string }; spec: unknown })
      .filter(({ kind }) => kind === 'RetentionPolicy')
    expect(checkRetentionObject({ name: policy!.metadata.name, spec: policy!.spec })).toEqual([])
  })
})

describe('docs/write-a-rule.md', () => {
  it('shows rules that are valid', () => {
    const rules = [...GUIDE.matchAll(/```yaml\n([^]*?)```/g)]
      .map(([, text]) => parse(text!) as { kind?: string; metadata: { name: string }; spec: unknown })
      .filter(({ kind }) => kind === 'ComplianceRule')
    expect(rules).toHaveLength(2)
    for (const { metadata, spec } of rules) expect(checkRuleObject({ name: metadata.name, spec })).toEqual([])
  })
})
