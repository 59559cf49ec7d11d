import { describe, expect, it } from 'vitest'
import {
  decideStatus,
  judgeAcceptance,
  ruleState,
  statusPrint,
  type Compilation,
  type Distribution,
  type RuleFacts,
} from './decide.ts'
import type { RuleView } from './gather.ts'
import { ruleView } from './rule.fixture.ts'

const NOW = Date.parse('2026-11-23T09:30:00.123Z')
const COMPILED: Compilation = { state: 'compiled' }
const FAULTY: Compilation = {
  state: 'faulty',
  problems: [
    { file: 'r', line: 3, column: 7, message: 'unexpected }' },
    { file: 'r', line: 4, column: 1, message: 'more' },
  ],
  formerGeneration: null,
}
const counted = (expected: number, current: number, settled = true): Distribution => ({
  state: 'counted',
  expected,
  current,
  settled,
  revision: '12-0123456789abcdef',
})

function facts(options: { rule?: RuleView; compilation?: Compilation; distribution?: Distribution } = {}): RuleFacts {
  const rule = options.rule ?? ruleView('r')
  return {
    rule,
    acceptance: judgeAcceptance(rule),
    compilation: options.compilation ?? COMPILED,
    distribution: options.distribution ?? counted(0, 0),
    nowMs: NOW,
  }
}

/** `Accepted`, `Compiled`, `Distributed` in short. */
function short(of: RuleFacts): string[] {
  return (decideStatus(of).conditions ?? []).map(({ status, reason }) => `${status} ${reason}`)
}

describe('the conditions of a rule', () => {
  const invalid = ruleView('r', { spec: { severity: 'odd' as 'low' } })
  const scan = ruleView('r', { spec: { stage: 'scan' } })
  const cases: { name: string; given: RuleFacts; want: string[]; wantState: string }[] = [
    {
      name: 'in force everywhere',
      given: facts({ distribution: counted(3, 3) }),
      want: ['True Valid', 'True Compiled', 'True AllProxies'],
      wantState: 'in_force',
    },
    {
      name: 'on its way',
      given: facts({ distribution: counted(3, 2) }),
      want: ['True Valid', 'True Compiled', 'False InProgress'],
      wantState: 'distributing',
    },
    {
      name: 'where no proxy runs',
      given: facts(),
      want: ['True Valid', 'True Compiled', 'True NoProxies'],
      wantState: 'in_force',
    },
    {
      name: 'not compiled yet',
      given: facts({ compilation: { state: 'pending' } }),
      want: ['True Valid', 'Unknown Pending', 'Unknown Pending'],
      wantState: 'pending',
    },
    {
      name: 'not published yet',
      given: facts({ distribution: { state: 'pending' } }),
      want: ['True Valid', 'True Compiled', 'Unknown Pending'],
      wantState: 'distributing',
    },
    {
      name: 'that does not compile',
      given: facts({ compilation: FAULTY }),
      want: ['True Valid', 'False DoesNotCompile', 'False NotCompiled'],
      wantState: 'faulty',
    },
    {
      name: 'while the compiler is away',
      given: facts({ compilation: { state: 'failed', reason: 'CompilerUnavailable', message: 'OPA is not there' } }),
      want: ['True Valid', 'False CompilerUnavailable', 'False NotCompiled'],
      wantState: 'faulty',
    },
    {
      name: 'that the schema should not have let in',
      given: facts({ rule: invalid }),
      want: ['False InvalidSpec', 'False NotAccepted', 'False NotCompiled'],
      wantState: 'invalid',
    },
    {
      name: 'of another stage',
      given: facts({ rule: scan, distribution: { state: 'not-for-proxies' } }),
      want: ['True Valid', 'True Compiled', 'False NotDistributedToProxies'],
      wantState: 'for_governance',
    },
    {
      name: 'whose module was not let out',
      given: facts({ distribution: { state: 'refused', reason: 'ActivationRefused', message: 'decisions differ' } }),
      want: ['True Valid', 'True Compiled', 'False ActivationRefused'],
      wantState: 'distributing',
    },
    {
      name: 'while a rollback is in force',
      given: facts({ distribution: { state: 'held', message: 'an earlier revision' } }),
      want: ['True Valid', 'True Compiled', 'False RollbackInForce'],
      wantState: 'distributing',
    },
  ]
  it.each(cases)('$name', ({ given, want, wantState }) => {
    expect(short(given)).toEqual(want)
    expect(ruleState(given)).toBe(wantState)
  })

  it('a fault is told with its place, and what stays in force', () => {
    const status = decideStatus(facts({ compilation: { ...FAULTY, formerGeneration: 4 } }))
    expect(status.errors).toEqual([
      { line: 3, column: 7, message: 'unexpected }' },
      { line: 4, column: 1, message: 'more' },
    ])
    expect(status.conditions?.[1]?.message).toBe('3:7: unexpected } (and 1 more); generation 4 stays in force')
    expect(status).not.toHaveProperty('revision')
    expect(status).not.toHaveProperty('distribution')
  })

  it('what authors write is bounded', () => {
    const problems = Array.from({ length: 100 }, () => ({ file: 'r', line: 0, column: 0, message: 'x'.repeat(10_000) }))
    const status = decideStatus(facts({ compilation: { state: 'faulty', problems, formerGeneration: null } }))
    expect(status.errors).toHaveLength(20)
    expect(JSON.stringify(status).length).toBeLessThan(60_000)
    expect(status.errors?.[0]).toMatchObject({ line: 1, column: 1 })
  })
})

describe('times of transition', () => {
  const before = decideStatus({ ...facts({ distribution: counted(3, 2) }), nowMs: NOW - 60_000 })
  it('stay while a status is the same, in whole seconds', () => {
    const rule = ruleView('r', { status: before })
    const after = decideStatus(facts({ rule, distribution: counted(3, 1) }))
    expect(after.conditions?.map(({ lastTransitionTime }) => lastTransitionTime)).toEqual(
      Array(3).fill('2026-11-23T09:29:00Z'),
    )
    expect(statusPrint(after)).toBe(statusPrint(before))
  })
  it('move where it changed', () => {
    const rule = ruleView('r', { status: before })
    const after = decideStatus(facts({ rule, distribution: counted(3, 3) }))
    expect(after.conditions?.map(({ lastTransitionTime }) => lastTransitionTime)).toEqual([
      '2026-11-23T09:29:00Z',
      '2026-11-23T09:29:00Z',
      '2026-11-23T09:30:00Z',
    ])
    expect(statusPrint(after)).not.toBe(statusPrint(before))
  })
})

describe('the revision', () => {
  const written = (revision: string, generation = 1): RuleView =>
    ruleView('r', { generation: 1, status: { observedGeneration: generation, revision } })
  const cases = [
    { name: 'is what first had the generation', rule: written('7-00000000000000aa'), want: '7-00000000000000aa' },
    {
      name: 'of another generation does not count',
      rule: written('7-00000000000000aa', 2),
      want: '12-0123456789abcdef',
    },
    { name: 'that is none is replaced', rule: written('forged'), want: '12-0123456789abcdef' },
    { name: 'that cannot be yet is replaced', rule: written('99-00000000000000aa'), want: '12-0123456789abcdef' },
  ]
  it.each(cases)('$name', ({ rule, want }) => {
    expect(decideStatus(facts({ rule })).revision).toBe(want)
  })
})

describe('in the first seconds of a term, while nobody has reported', () => {
  const knew = decideStatus(facts({ distribution: counted(3, 3) }))
  it('what was counted before stays', () => {
    const rule = ruleView('r', { status: knew })
    expect(short(facts({ rule, distribution: counted(0, 0, false) }))[2]).toBe('True AllProxies')
  })
  it('but not for another generation', () => {
    const rule = ruleView('r', { generation: 2, status: knew })
    expect(short(facts({ rule, distribution: counted(0, 0, false) }))[2]).toBe('True NoProxies')
  })
  it('and not what says nothing', () => {
    const rule = ruleView('r', { status: decideStatus(facts({ distribution: { state: 'pending' } })) })
    expect(short(facts({ rule, distribution: counted(0, 0, false) }))[2]).toBe('True NoProxies')
  })
})
