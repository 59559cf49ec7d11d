import { describe, expect, it } from 'vitest'
import type { RetentionPolicySpec } from '#core/rule/model.ts'
import type { PublishedPolicies } from '#core/retention/published.ts'
import { decidePolicies, decidePolicyStatus, policyPrint, publishedText } from './decide.ts'
import { gatherPolicies, type PolicyView } from './gather.ts'

const view = (name: string, spec: Partial<RetentionPolicySpec> = {}, namespace = 'signet-system'): PolicyView => ({
  metadata: { name, namespace, uid: `uid-${name}`, generation: 2 },
  spec: { hot: '90d', archive: '7y', ...spec },
})

function judge(...policies: PolicyView[]): Record<string, string> {
  return Object.fromEntries(
    decidePolicies(policies, 'signet-system').map(({ policy, conditions }) => [
      policy.metadata.name,
      conditions.map(({ type, status, reason }) => `${type} ${status} ${reason}`).join(', '),
    ]),
  )
}

describe('policies are judged together', () => {
  const ok = (overlap: string): string => `Accepted True Valid, Overlapping ${overlap}`
  const cases: { name: string; policies: PolicyView[]; want: Record<string, string> }[] = [
    { name: 'one alone', policies: [view('a')], want: { a: ok('False NoOverlap') } },
    {
      name: 'for different tenants',
      policies: [view('a', { selector: { tenants: ['x'] } }), view('b', { selector: { tenants: ['y'] } })],
      want: { a: ok('False NoOverlap'), b: ok('False NoOverlap') },
    },
    {
      name: 'for a tenant and for a region: a record may be both',
      policies: [view('a', { selector: { tenants: ['x'] } }), view('b', { selector: { regions: ['eu'] } })],
      want: { a: ok('True Overlaps'), b: ok('True Overlaps') },
    },
    {
      name: 'for different frameworks: a record may name both',
      policies: [view('a', { selector: { frameworks: ['GDPR'] } }), view('b', { selector: { frameworks: ['SOX'] } })],
      want: { a: ok('True Overlaps'), b: ok('True Overlaps') },
    },
    {
      name: 'that contradict each other',
      policies: [view('a', { erasure: { allowed: true } }), view('b', { erasure: { allowed: false } }), view('c')],
      want: { a: ok('True Conflict'), b: ok('True Conflict'), c: ok('True Overlaps') },
    },
    {
      name: 'in a team’s own namespace',
      policies: [view('a', {}, 'payments'), view('b')],
      want: { a: 'Accepted False WrongNamespace', b: ok('False NoOverlap') },
    },
    {
      name: 'that are not valid: they are compared with nobody',
      policies: [view('a', { hot: '9y', archive: '1d' }), view('b')],
      want: { a: 'Accepted False InvalidSpec', b: ok('False NoOverlap') },
    },
  ]
  it.each(cases)('$name', ({ policies, want }) => {
    expect(judge(...policies)).toEqual(want)
  })

  it('many of them, without growing with the square', () => {
    const many = Array.from({ length: 600 }, (_, index) =>
      view(`p${index}`, { purge: { mode: index % 2 === 0 ? 'never' : 'whenArchived' } }),
    )
    const decisions = decidePolicies(many, 'signet-system')
    expect(JSON.stringify(decisions.map(({ conditions }) => conditions)).length).toBeLessThan(600 * 600)
  })
})

describe('what the ledger reads', () => {
  it('has days, defaults and holds, in the order of names, and is the same for the same policies', () => {
    const held = view('held', {
      selector: { tenants: ['x'], dataDomains: ['payments'] },
      hot: '1y',
      legalHold: { active: true, reason: 'case 7', reference: 'T-1' },
      erasure: { allowed: true, within: '30d' },
      purge: { mode: 'never', keepSummary: false },
    })
    const lifted = view('lifted', { legalHold: { active: false, reason: 'case 6' } })
    const text = publishedText(
      decidePolicies(gatherPolicies([lifted, held, view('stray', {}, 'payments')]), 'signet-system'),
    )
    expect(JSON.parse(text) as PublishedPolicies).toEqual({
      version: 1,
      policies: [
        {
          name: 'held',
          uid: 'uid-held',
          generation: 2,
          selector: { tenants: ['x'], data_domains: ['payments'] },
          hot_days: 366,
          archive_days: 2_562,
          purge: { mode: 'never', keep_summary: false },
          legal_hold: { reason: 'case 7', reference: 'T-1' },
          erasure: { allowed: true, within_days: 30 },
        },
        {
          name: 'lifted',
          uid: 'uid-lifted',
          generation: 2,
          selector: {},
          hot_days: 90,
          archive_days: 2_562,
          purge: { mode: 'whenArchived', keep_summary: true },
          legal_hold: null,
          erasure: { allowed: false },
        },
      ],
    })
    expect(
      publishedText(decidePolicies(gatherPolicies([held, view('stray', {}, 'payments'), lifted]), 'signet-system')),
    ).toBe(text)
  })

  it('a status says that publishing failed', () => {
    const [decision] = decidePolicies([view('a')], 'signet-system')
    const failed = decidePolicyStatus(decision!, { state: 'failed', message: 'no API server' }, 0)
    expect(failed.conditions?.at(-1)).toMatchObject({ type: 'Published', status: 'False', reason: 'PublicationFailed' })
    expect(policyPrint(failed)).not.toBe(policyPrint(decidePolicyStatus(decision!, { state: 'published' }, 0)))
  })
})
