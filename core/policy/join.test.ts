import { describe, expect, test } from 'vitest'
import type { RuleDecision, RuleOutcome } from './decision.ts'
import { joinOutcomes } from './join.ts'
import type { CompiledRule, RuleMode } from './manifest.ts'

function rule(id: string, change: Partial<CompiledRule> = {}): CompiledRule {
  return {
    id,
    title: id,
    severity: 'high',
    frameworks: [],
    entrypoint: `signet/root/${id}/decision`,
    reads: [],
    mode: 'enforce',
    undecidable: { external: 'closed', internal: 'open' },
    ...change,
  }
}

function decided(id: string, decision: Partial<RuleDecision> = {}): RuleOutcome {
  return { rule: id, decision: { evaluated: true, violations: [], ...decision } }
}

const VIOLATION = { severity: 'high', message: 'no', remediation: { hint: 'do' }, frameworks: [] } as const

function join(
  outcomes: RuleOutcome[],
  change: Partial<CompiledRule> = {},
  modes: Record<string, RuleMode> = {},
  channel: 'external' | 'internal' = 'external',
) {
  return joinOutcomes([rule('a', change), rule('b', change)], outcomes, channel, (r) => modes[r.id] ?? r.mode)
}

describe('joinOutcomes', () => {
  test('joins by highest classification, union of regulations, strictest approval', () => {
    const joined = join([
      decided('a', { classification: 'confidential', regulations: ['SOX', 'NONE'], approval_status: 'approved' }),
      decided('b', {
        classification: 'internal',
        regulations: ['GDPR'],
        approval_status: 'pending-approval',
        canonicalization: 'jcs',
      }),
    ])
    expect(joined).toMatchObject({
      classification: 'confidential',
      regulations: ['GDPR', 'SOX'],
      approvalStatus: 'pending-approval',
      canonicalization: 'jcs',
      violations: [],
    })
  })

  test.each<{ what: string; root: RuleOutcome }>([
    { what: 'says nothing', root: decided('a') },
    { what: 'cannot be judged', root: { rule: 'a', undecidable: 'the body could not be read' } },
  ])('a rule of a namespace loosens nothing where the root’s $what', ({ root }) => {
    const own = decided('shop/b', { classification: 'public', approval_status: 'approved' })
    const rules = [rule('a', { undecidable: { external: 'open', internal: 'open' } }), rule('shop/b')]
    expect(joinOutcomes(rules, [root, own], 'internal', () => 'enforce')).toMatchObject({
      classification: 'internal',
      approvalStatus: 'draft',
    })
    const stricter = decided('shop/b', { classification: 'restricted', approval_status: 'rejected' })
    expect(joinOutcomes(rules, [root, stricter], 'internal', () => 'enforce')).toMatchObject({
      classification: 'restricted',
      approvalStatus: 'rejected',
    })
  })

  test('says NONE, internal and draft where no rule says anything', () => {
    expect(join([decided('a'), decided('b')])).toMatchObject({
      regulations: ['NONE'],
      classification: 'internal',
      approvalStatus: 'draft',
    })
  })

  test.each([
    { name: 'no outcome', outcomes: [decided('a')], channel: 'external', wantViolations: 1 },
    {
      name: 'undecidable, closed',
      outcomes: [decided('a'), { rule: 'b', undecidable: 'x' }],
      channel: 'external',
      wantViolations: 1,
    },
    {
      name: 'undecidable, open',
      outcomes: [decided('a'), { rule: 'b', undecidable: 'x' }],
      channel: 'internal',
      wantViolations: 0,
    },
  ] as const)('$name', ({ outcomes, channel, wantViolations }) => {
    const joined = join([...outcomes], {}, {}, channel)
    expect(joined.violations).toHaveLength(wantViolations)
    expect(joined.undecidable).toHaveLength(1)
  })

  test.each([
    { mode: 'enforce', wantViolations: 1, wantShadow: 0, wantClass: 'restricted' },
    { mode: 'shadow', wantViolations: 0, wantShadow: 1, wantClass: 'public' },
    { mode: 'off', wantViolations: 0, wantShadow: 0, wantClass: 'public' },
  ] as const)(
    'a rule in $mode governs its own violations and obligations only',
    ({ mode, wantViolations, wantShadow, wantClass }) => {
      const joined = join(
        [
          decided('a', { classification: 'restricted', violations: [{ ...VIOLATION, frameworks: [] }] }),
          decided('b', { classification: 'public' }),
        ],
        {},
        { a: mode },
      )
      expect(joined.violations).toHaveLength(wantViolations)
      expect(joined.shadow).toHaveLength(wantShadow)
      expect(joined.classification).toBe(wantClass)
    },
  )

  test('an undecidable rule in shadow refuses nothing', () => {
    const joined = join([{ rule: 'a', undecidable: 'x' }, decided('b')], {}, { a: 'shadow' })
    expect(joined.violations).toHaveLength(0)
    expect(joined.shadow).toHaveLength(1)
    expect(joined.undecidable).toEqual([{ rule: 'a', reason: 'x', refused: false }])
  })

  test('names the rules that wait for an approval', () => {
    const joined = join([
      decided('a', { approval_status: 'pending-approval', violations: [{ ...VIOLATION, frameworks: [] }] }),
      decided('b', { approval_status: 'pending-approval' }),
    ])
    expect(joined.approvalBlockedBy).toEqual(['a'])
  })
})
