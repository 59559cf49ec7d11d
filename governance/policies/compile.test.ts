import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { checkRuleObject } from '#core/rule/check.ts'
import { createOpaMemory } from '#engine/compile/opa-memory.ts'
import { compilePolicy, policyRule, ruleIdOf } from './compile.ts'

const ID = '019aba12-3456-7890-abcd-0123456789ab'
const SOURCE = {
  rule_id: 'exports-stay-0123456789ab',
  description: 'Exports stay',
  rego_content: 'package a\n\ndecision := {"evaluated": true, "violations": []}',
  regulation_refs: ['SOX'],
  severity: 'high',
  mode: 'enforce',
} as const

describe('ruleIdOf', () => {
  it.each([
    { name: 'Exports stay', want: 'exports-stay-0123456789ab' },
    { name: '  2026: Größe & Co.', want: 'gro-e-co-0123456789ab' },
    { name: '規則', want: 'policy-0123456789ab' },
    { name: '42', want: 'policy-0123456789ab' },
    { name: `${'a'.repeat(39)} b`, want: `${'a'.repeat(39)}-0123456789ab` },
  ])('calls $name $want', ({ name, want }) => {
    expect(ruleIdOf(name, ID)).toBe(want)
  })
  it('makes a name that a rule may have, of whatever a policy is called', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary', maxLength: 200 }), fc.uuid(), (name, id) => {
        expect(checkRuleObject(policyRule({ ...SOURCE, rule_id: ruleIdOf(name, id) }, 'acme'))).toEqual([])
      }),
    )
  })
})

describe('policyRule', () => {
  it('keeps a policy to its tenant in a bundle, and to nobody alone', () => {
    expect(policyRule(SOURCE, 'acme').spec.match).toEqual({ tenants: ['acme'] })
    expect(policyRule(SOURCE, null).spec.match).toBeUndefined()
  })
})

describe('compilePolicy', () => {
  it('says which variable is missing where there is no OPA', async () => {
    const deps = { opa: undefined, memory: createOpaMemory(1_024), samples: [] }
    await expect(compilePolicy(deps, SOURCE)).rejects.toMatchObject({
      code: 'OPA_UNAVAILABLE',
      message: expect.stringContaining('SIGNET_OPA'),
    })
  })
})
