import { expect, it } from 'vitest'
import { RULES_WITH_STRATEGIES, strategiesOf, strategyOf } from './strategies.ts'

it.each([
  { what: 'its own', rule: 'unauthorized_model_usage', chosen: {}, want: 'permission-reset' },
  {
    what: 'what the tenant chose',
    rule: 'unauthorized_model_usage',
    chosen: { unauthorized_model_usage: 'DeepAgent-regenerate-policy' },
    want: 'DeepAgent-regenerate-policy',
  },
  {
    what: 'its own where the choice is not possible',
    rule: 'maos_supervision_bypass',
    chosen: { maos_supervision_bypass: 'auto-correction' },
    want: 'MAOS-action-block',
  },
  { what: 'auto-correction for what is not mapped', rule: 'something_new', chosen: {}, want: 'auto-correction' },
  { what: 'auto-correction for a name of JavaScript', rule: 'constructor', chosen: {}, want: 'auto-correction' },
] as const)('$what', ({ rule, chosen, want }) => {
  expect(strategyOf(rule, chosen)).toBe(want)
})
it('is never nothing', () => {
  for (const rule of RULES_WITH_STRATEGIES) expect(strategiesOf(rule).length).toBeGreaterThan(0)
})
