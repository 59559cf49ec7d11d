/** Codes that Signet ships. The registry is open: any code of the form `REGULATION_CODE` may stand in a stamp. */
export const REGULATIONS: Readonly<Record<string, string>> = {
  SOX: 'Sarbanes-Oxley Act of 2002 (US)',
  GDPR: 'General Data Protection Regulation, (EU) 2016/679',
  FINRA: 'Rules of the Financial Industry Regulatory Authority (US)',
  CCPA: 'California Consumer Privacy Act of 2018 (US-CA)',
  'PCI-DSS': 'Payment Card Industry Data Security Standard',
  HIPAA: 'Health Insurance Portability and Accountability Act of 1996 (US)',
  SOC2: 'AICPA SOC 2, Trust Services Criteria',
  ISO27001: 'ISO/IEC 27001, information security management',
  ISO42001: 'ISO/IEC 42001, artificial intelligence management',
  'EU-AI-ACT': 'Artificial Intelligence Act, (EU) 2024/1689',
  FEDRAMP: 'Federal Risk and Authorization Management Program (US)',
  NONE: 'No regulation applies; stands alone',
}

/** Stands where nothing applies, since a stamp's list is never empty. */
export const NO_REGULATION = 'NONE'

const REGULATION_CODE = /^[A-Z0-9][A-Z0-9_.-]{0,63}$/

/** Whether a text may be a code: one that ships, or another of the same form. */
export function isRegulationCode(text: string): boolean {
  return REGULATION_CODE.test(text)
}

/** The codes as a stamp lists them: each once, sorted, without `NONE` beside another, and `NONE` where there is no other. */
export function regulationList(codes: Iterable<string>): string[] {
  const applying = new Set(codes)
  applying.delete(NO_REGULATION)
  return applying.size === 0 ? [NO_REGULATION] : [...applying].sort()
}
