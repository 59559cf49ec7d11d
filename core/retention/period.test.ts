import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { isRegulationCode, REGULATIONS } from '../stamp/regulation.ts'
import { className, coveringClass, MIN_HOT_DAYS, periodOf, periodOfClass, type RecordTraits } from './period.ts'
import { publishPolicy, type PublishedPolicy } from './published.ts'
import { REGULATION_PERIODS } from './regulation-periods.ts'
import type { RetentionPolicySpec } from '../rule/retention.ts'

const policy = (spec: Partial<RetentionPolicySpec>): PublishedPolicy =>
  publishPolicy({ name: 'p', uid: '', generation: 1 }, { hot: '90d', archive: '180d', ...spec })
const traits = (given: Partial<RecordTraits> = {}): RecordTraits => ({
  tenant: 'acme',
  region: null,
  data_domain: null,
  frameworks: [],
  ...given,
})

describe('how long a record is kept', () => {
  const cases: { name: string; policies: PublishedPolicy[]; of?: Partial<RecordTraits>; want: string | null }[] = [
    { name: 'no policy', policies: [], want: null },
    { name: 'one for all', policies: [policy({})], want: 'h90_a180' },
    { name: 'one for another tenant', policies: [policy({ selector: { tenants: ['globex'] } })], want: null },
    {
      name: 'every member of a selector has to fit',
      policies: [policy({ selector: { tenants: ['acme'], regions: ['eu'] } })],
      of: { region: 'us' },
      want: null,
    },
    {
      name: 'any value of a member fits',
      policies: [policy({ selector: { regions: ['eu', 'us'] } })],
      of: { region: 'us' },
      want: 'h90_a180',
    },
    { name: 'a record without a region is in none', policies: [policy({ selector: { regions: ['eu'] } })], want: null },
    {
      name: 'by framework',
      policies: [policy({ selector: { frameworks: ['GDPR'] } })],
      of: { frameworks: ['GDPR'] },
      want: 'h90_a180',
    },
    {
      name: 'the longest hot and the longest archive win, of whichever policy',
      policies: [policy({ hot: '100d', archive: '100d' }), policy({ hot: '40d', archive: '1y' })],
      want: 'h100_a366',
    },
    {
      name: 'what any of them keeps is kept',
      policies: [policy({ purge: { mode: 'never', keepSummary: false } }), policy({ purge: { keepSummary: true } })],
      want: 'h90_a180_never',
    },
    {
      name: 'no summary where none asks for one',
      policies: [policy({ purge: { keepSummary: false } })],
      want: 'h90_a180_bare',
    },
    {
      name: 'never less than a floor',
      policies: [policy({ hot: '1d', archive: '1d' })],
      want: `h${MIN_HOT_DAYS}_a${MIN_HOT_DAYS}`,
    },
    { name: 'SOX asks for seven years', policies: [policy({})], of: { frameworks: ['SOX'] }, want: 'h90_a2562' },
    {
      name: 'PCI-DSS for three months at hand, FINRA for two years',
      policies: [policy({ hot: '30d', archive: '30d' })],
      of: { frameworks: ['PCI-DSS', 'FINRA'] },
      want: 'h732_a2196',
    },
    { name: 'GDPR for nothing', policies: [policy({})], of: { frameworks: ['GDPR'] }, want: 'h90_a180' },
    {
      name: 'a code of somebody’s own for nothing',
      policies: [policy({})],
      of: { frameworks: ['constructor', 'ACME-1'] },
      want: 'h90_a180',
    },
    {
      name: 'regulations are no policy: without one all is kept',
      policies: [],
      of: { frameworks: ['SOX'] },
      want: null,
    },
  ]
  it.each(cases)('$name', ({ policies, of, want }) => {
    const period = periodOf(policies, traits(of))
    expect(period === null ? null : className(period)).toBe(want)
  })

  const anyPolicy = fc
    .record({
      hot: fc.integer({ min: 1, max: 4_000 }),
      more: fc.integer({ min: 0, max: 4_000 }),
      never: fc.boolean(),
      tenants: fc.constantFrom<string[] | undefined>(undefined, ['acme'], ['globex']),
    })
    .map(({ hot, more, never, tenants }) =>
      policy({
        hot: `${hot}d`,
        archive: `${hot + more}d`,
        purge: { mode: never ? 'never' : 'whenArchived' },
        ...(tenants === undefined ? {} : { selector: { tenants } }),
      }),
    )
  const codes = fc.subarray([...Object.keys(REGULATION_PERIODS), 'ACME-1'])

  it('does not depend on the order of policies, and a further policy or regulation never shortens it', () => {
    fc.assert(
      fc.property(
        fc.array(anyPolicy, { maxLength: 6 }),
        anyPolicy,
        codes,
        fc.constantFrom('SOX', 'FINRA'),
        (all, one, frameworks, code) => {
          const before = periodOf(all, traits({ frameworks }))
          expect(periodOf(all.toReversed(), traits({ frameworks }))).toEqual(before)
          if (before === null) return
          for (const after of [
            periodOf([...all, one], traits({ frameworks })),
            periodOf(all, traits({ frameworks: [...frameworks, code] })),
          ]) {
            expect(after!.hotDays).toBeGreaterThanOrEqual(before.hotDays)
            expect(after!.archiveDays).toBeGreaterThanOrEqual(before.archiveDays)
            expect(after!.never || !before.never).toBe(true)
          }
        },
      ),
    )
  })

  it('a class name says its period', () => {
    fc.assert(
      fc.property(anyPolicy, (one) => {
        const period = periodOf([one], traits({ tenant: one.selector.tenants?.[0] ?? 'acme' }))!
        expect(periodOfClass(className(period))).toEqual(period)
      }),
    )
    for (const name of ['default', 'h0_a1', 'h1_a', 'h1_a2_never_', 'h1_a2; DROP TABLE', ''])
      expect(periodOfClass(name), name).toBeNull()
  })
})

describe('when there can be no further class', () => {
  const wanted = { hotDays: 90, archiveDays: 400, never: false, keepSummary: true }
  it.each([
    { existing: [], want: 'default' },
    { existing: ['h89_a4000', 'h90_a399', 'h100_a500_bare'], want: 'default' },
    { existing: ['h200_a400', 'h100_a4000', 'h90_a900_never'], want: 'h100_a4000' },
    { existing: ['h100_a500', 'h100_a450'], want: 'h100_a450' },
    { existing: ['h90_a900_never'], want: 'h90_a900_never' },
  ])('of $existing: $want', ({ existing, want }) => {
    expect(coveringClass(existing, wanted)).toBe(want)
  })
})

describe('periods of regulations', () => {
  it('are of codes that ship, each with its source, hot no longer than in all', () => {
    for (const [code, { hotDays, keepDays, source }] of Object.entries(REGULATION_PERIODS)) {
      expect(isRegulationCode(code) && Object.hasOwn(REGULATIONS, code), code).toBe(true)
      expect(hotDays).toBeLessThanOrEqual(keepDays)
      expect(source.length).toBeGreaterThan(10)
    }
    const without = Object.keys(REGULATIONS).filter((code) => !Object.hasOwn(REGULATION_PERIODS, code))
    expect(without).toEqual(['NONE'])
  })
})
