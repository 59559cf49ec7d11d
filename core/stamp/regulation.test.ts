import { expect, it } from 'vitest'
import { isRegulationCode, NO_REGULATION, regulationList, REGULATIONS } from './regulation.ts'

it('ships codes of the form that a stamp takes', () => {
  expect(Object.keys(REGULATIONS)).toEqual(
    expect.arrayContaining(['SOX', 'GDPR', 'FINRA', 'CCPA', 'PCI-DSS', 'HIPAA', 'NONE']),
  )
  for (const code of Object.keys(REGULATIONS)) expect(isRegulationCode(code)).toBe(true)
})
it.each([
  { code: 'DORA', want: true },
  { code: 'A'.repeat(64), want: true },
  { code: 'A'.repeat(65), want: false },
  { code: 'gdpr', want: false },
  { code: '', want: false },
  { code: 'A B', want: false },
])('takes others: $code is $want', ({ code, want }) => expect(isRegulationCode(code)).toBe(want))
it.each([
  { codes: [], want: [NO_REGULATION] },
  { codes: ['NONE'], want: ['NONE'] },
  { codes: ['SOX', 'NONE', 'GDPR', 'SOX'], want: ['GDPR', 'SOX'] },
])('lists $codes as $want', ({ codes, want }) => expect(regulationList(codes)).toEqual(want))
