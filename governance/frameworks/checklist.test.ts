import { describe, expect, it } from 'vitest'
import type { Control } from './catalog.ts'
import { assess, scoreOf, type AssessedControl, type Statement, type Status } from './checklist.ts'
import type { CheckResult } from './checks.ts'

const NOW = new Date('2026-11-25T12:00:00.000Z')
const CONTROL: Control = { id: 'A', title: 'a', text: 'a', check: 'roles-in-force' }
const said = (status: Status, validUntil: Date | null = null): Statement => ({
  status,
  owner: '',
  note: '',
  evidence: [],
  validUntil,
  version: 1,
  updatedBy: 'x',
  updatedAt: NOW,
})
const seen = (result: CheckResult['result']): CheckResult => ({ result, detail: '' })

describe('assess', () => {
  it.each<{
    name: string
    full?: boolean
    check: CheckResult | null
    statement: Statement | null
    want: [Status, string]
  }>([
    { name: 'nothing is known', check: null, statement: null, want: ['not_started', 'nothing'] },
    {
      name: 'nobody said anything, and the check could not look',
      check: seen('unknown'),
      statement: null,
      want: ['not_started', 'nothing'],
    },
    {
      name: 'the check is met, and nobody said anything',
      check: seen('met'),
      statement: null,
      want: ['in_progress', 'check'],
    },
    {
      name: 'the check is met, and it is said to be implemented',
      check: seen('met'),
      statement: said('implemented'),
      want: ['implemented', 'check and statement'],
    },
    {
      name: 'the check is not met, whatever is said',
      check: seen('not_met'),
      statement: said('implemented'),
      want: ['in_progress', 'check and statement'],
    },
    {
      name: 'the check is not met, and nobody said anything',
      check: seen('not_met'),
      statement: null,
      want: ['not_started', 'check'],
    },
    {
      name: 'the check could not look: what is said',
      check: seen('unknown'),
      statement: said('implemented'),
      want: ['implemented', 'statement'],
    },
    { name: 'no check: what is said', check: null, statement: said('in_progress'), want: ['in_progress', 'statement'] },
    {
      name: 'fully automatic and met',
      full: true,
      check: seen('met'),
      statement: null,
      want: ['implemented', 'check'],
    },
    {
      name: 'fully automatic and not met, whatever is said',
      full: true,
      check: seen('not_met'),
      statement: said('implemented'),
      want: ['not_started', 'check'],
    },
    {
      name: 'fully automatic, and the check could not look',
      full: true,
      check: seen('unknown'),
      statement: null,
      want: ['not_started', 'nothing'],
    },
  ])('$name', ({ full, check, statement, want }) => {
    const { status, basis } = assess(
      full === true ? { ...CONTROL, automation: 'full' } : CONTROL,
      check,
      statement,
      NOW,
    )
    expect([status, basis]).toEqual(want)
  })
  it.each([
    { until: new Date(NOW.getTime() + 1), want: ['implemented', false] },
    { until: NOW, want: ['in_progress', true] },
  ])('what was said until $until', ({ until, want }) => {
    const { status, expired } = assess(CONTROL, null, said('implemented', until), NOW)
    expect([status, expired]).toEqual(want)
  })
  it.each([
    { what: 'none', evidence: { fresh: 0, stale: 0 }, want: ['implemented', false] },
    { what: 'some that is out of date', evidence: { fresh: 1, stale: 2 }, want: ['implemented', false] },
    { what: 'all out of date', evidence: { fresh: 0, stale: 1 }, want: ['in_progress', true] },
  ])('what was said, with evidence: $what', ({ evidence, want }) => {
    const { status, expired } = assess(CONTROL, null, said('implemented'), NOW, evidence)
    expect([status, expired]).toEqual(want)
  })
})

it.each([
  { statuses: [], want: 0 },
  { statuses: ['implemented'], want: 100 },
  { statuses: ['implemented', 'implemented', 'in_progress'], want: 66 },
  { statuses: ['in_progress', 'not_started'], want: 0 },
])('score of $statuses: $want %', ({ statuses, want }) => {
  expect(scoreOf(statuses.map((status) => ({ status }) as AssessedControl)).percent).toBe(want)
})
