import { describe, expect, it } from 'vitest'
import { checkRetentionObject, checkRuleObject } from './check.ts'
import { BAD_RETENTION, BAD_RULES, SMALL_RULE, UNFIT_RULES, WHOLE_RETENTION, WHOLE_RULE } from './rule.fixture.ts'

const said = (faults: readonly { path: string; message: string }[]): string =>
  faults.map(({ path, message }) => `${path}: ${message}`).join('\n')

describe('checkRuleObject', () => {
  it('takes rules as they should be', () => {
    expect(checkRuleObject({ name: 'whole', spec: WHOLE_RULE })).toEqual([])
    expect(checkRuleObject({ name: 'a', spec: SMALL_RULE })).toEqual([])
    const { conditions: _, ...rest } = SMALL_RULE
    expect(checkRuleObject({ name: 'a-1', spec: { ...rest, rego: 'package x' } })).toEqual([])
  })

  it.each(BAD_RULES)('refuses $name', ({ as, spec, want }) => {
    expect(said(checkRuleObject({ name: as ?? 'bad', spec }))).toMatch(want)
  })

  it.each(UNFIT_RULES)('refuses $name', ({ spec, want }) => {
    expect(said(checkRuleObject({ name: 'bad', spec }))).toMatch(want)
  })

  it('refuses what is no spec at all, and says no more than twenty things', () => {
    for (const spec of [undefined, null, 7, 'x', [], {}]) {
      expect(checkRuleObject({ name: 'bad', spec }).length).toBeGreaterThan(0)
    }
    const conditions = { all: Array.from({ length: 30 }, () => ({ fact: 'x', operator: 'equal', value: 1 })) }
    expect(checkRuleObject({ name: 'bad', spec: { ...SMALL_RULE, conditions } })).toHaveLength(20)
  })

  it('refuses more than 256 conditions', () => {
    const leaf = { fact: 'response.status', operator: 'equal', value: 1 }
    const conditions = { all: Array.from({ length: 9 }, () => ({ any: Array.from({ length: 30 }, () => leaf) })) }
    expect(said(checkRuleObject({ name: 'bad', spec: { ...SMALL_RULE, conditions } }))).toMatch(
      /270 conditions; at most 256/,
    )
  })
})

describe('checkRetentionObject', () => {
  it('takes policies as they should be', () => {
    expect(checkRetentionObject({ name: 'whole', spec: WHOLE_RETENTION })).toEqual([])
    expect(checkRetentionObject({ name: 'a', spec: { hot: '366d', archive: '1y' } })).toEqual([])
  })

  it.each(BAD_RETENTION)('refuses $name', ({ spec, want }) => {
    expect(said(checkRetentionObject({ name: 'bad', spec }))).toMatch(want)
  })
})
