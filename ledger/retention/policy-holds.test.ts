import { describe, expect, it } from 'vitest'
import { publishPolicy, type PublishedPolicy } from '#core/retention/published.ts'
import type { RetentionPolicySpec } from '#core/rule/retention.ts'
import type { Hold } from './holds.ts'
import { decidePolicyHolds, policyPrint, type NamedPolicy } from './policy-holds.ts'

const policy = (spec: Partial<RetentionPolicySpec>, generation = 1): PublishedPolicy =>
  publishPolicy({ name: 'p', uid: 'u', generation }, { hot: '90d', archive: '90d', ...spec })
const held = (reason: string, selector: RetentionPolicySpec['selector'] = {}): NamedPolicy => ({
  key: 'operator/p',
  policy: policy({ legalHold: { active: true, reason }, selector }),
})
const hold = (changes: Partial<Hold> = {}): Hold => ({
  id: '1',
  tenant: 'acme',
  reason: 'case 7',
  reference: null,
  dataDomains: null,
  regions: null,
  fromMonth: null,
  toMonth: null,
  policy: 'operator/p',
  placedBy: 'operator/p',
  placedAt: new Date(0),
  ...changes,
})

describe('holds that policies ask for', () => {
  const both = new Set(['operator', 'api'] as const)
  it.each([
    { name: 'a new one is placed', policies: [held('case 7')], holds: [], want: [1, 0] },
    { name: 'one that stands is left', policies: [held('case 7')], holds: [hold()], want: [0, 0] },
    { name: 'another reason is another hold', policies: [held('case 8')], holds: [hold()], want: [1, 1] },
    {
      name: 'one for other domains too',
      policies: [held('case 7', { dataDomains: ['x'] })],
      holds: [hold()],
      want: [1, 1],
    },
    { name: 'one that nobody asks for ends', policies: [], holds: [hold()], want: [0, 1] },
    {
      name: 'not where its policies are not known',
      policies: [],
      holds: [hold()],
      known: new Set(['api'] as const),
      want: [0, 0],
    },
    { name: 'one placed by hand is its placer’s', policies: [], holds: [hold({ policy: null })], want: [0, 0] },
    {
      name: 'one for another tenant is none',
      policies: [held('case 7', { tenants: ['globex'] })],
      holds: [],
      want: [0, 0],
    },
    {
      name: 'by framework it holds all',
      policies: [held('case 7', { frameworks: ['SOX'] })],
      holds: [hold()],
      want: [0, 0],
    },
    {
      name: 'a policy without a hold asks for none',
      policies: [{ key: 'operator/p', policy: policy({}) }],
      holds: [],
      want: [0, 0],
    },
  ])('$name', ({ policies, holds, known = both, want }) => {
    const { place, release } = decidePolicyHolds('acme', policies, holds, known)
    expect([place.length, release.length]).toEqual(want)
  })

  it('each state of a policy has a print of its own', () => {
    expect(policyPrint(policy({}))).toBe(policyPrint(policy({})))
    expect(policyPrint(policy({}, 2))).not.toBe(policyPrint(policy({})))
  })
})
