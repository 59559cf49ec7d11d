import { DAYS_PER_YEAR } from '../rule/duration.ts'

/**
 * How long records that fall under a regulation have to be kept at least. `keepDays`: in all, database and archive together. `hotDays`: at
 * hand, which here is in the database. Where a regulation leaves the period to a contract or a policy, what is customary stands here and
 * `source` says so. One that asks for no minimum (GDPR limits how long, Article 5(1)(e)) has 0.
 */
export type RegulationPeriod = { readonly hotDays: number; readonly keepDays: number; readonly source: string }

const years = (count: number): number => count * DAYS_PER_YEAR

export const REGULATION_PERIODS: Readonly<Record<string, RegulationPeriod>> = {
  SOX: { hotDays: 0, keepDays: years(7), source: '17 CFR 210.2-06(a): seven years' },
  FINRA: {
    hotDays: years(2),
    keepDays: years(6),
    source: 'FINRA Rule 4511(b) and 17 CFR 240.17a-4(a): six years, the first two in an easily accessible place',
  },
  HIPAA: { hotDays: 0, keepDays: years(6), source: '45 CFR 164.316(b)(2)(i): six years' },
  'PCI-DSS': {
    hotDays: 92,
    keepDays: years(1),
    source: 'PCI DSS v4.0.1, requirement 10.5.1: twelve months, the last three immediately available',
  },
  CCPA: { hotDays: 0, keepDays: years(2), source: '11 CCR 7101(a): 24 months' },
  'EU-AI-ACT': {
    hotDays: 0,
    keepDays: 184,
    source: 'Regulation (EU) 2024/1689, Articles 19(1) and 26(6): logs at least six months',
  },
  FEDRAMP: {
    hotDays: years(1),
    keepDays: 915,
    source: 'OMB M-21-31: twelve months active and eighteen months cold',
  },
  SOC2: { hotDays: 0, keepDays: years(1), source: 'no period in the criteria; the length of a customary audit period' },
  ISO27001: { hotDays: 0, keepDays: years(1), source: 'no period in A.8.15; one certification cycle of surveillance' },
  ISO42001: { hotDays: 0, keepDays: years(1), source: 'no period in the standard; as ISO/IEC 27001' },
  GDPR: { hotDays: 0, keepDays: 0, source: 'Article 5(1)(e): no longer than necessary; no minimum' },
}
