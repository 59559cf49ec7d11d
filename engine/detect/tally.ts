import type { FactName } from '#core/policy/decision.ts'

/** More are not counted: no rule has use for the difference, and a decision's cache key holds the count. */
const MAX_COUNT = 1000

const COUNTED = ['email', 'iban', 'payment_card', 'phone', 'national_id', 'person_name'] as const

/** Findings of one body. Mutable: one for each call of `detectFacts`. */
export class Tally {
  email = 0
  iban = 0
  payment_card = 0
  phone = 0
  national_id = 0
  person_name = 0
  /** One bit for each distinct field of a financial statement. */
  financialFields = 0

  clear(): void {
    for (const name of COUNTED) this[name] = 0
    this.financialFields = 0
  }

  /** Findings of a part of the body. */
  add(part: Tally): void {
    for (const name of COUNTED) this[name] += part[name]
    this.financialFields |= part.financialFields
  }

  /** Takes over what another reading of the same body found more of. */
  join(other: Tally): void {
    for (const name of COUNTED) this[name] = Math.max(this[name], other[name])
    this.financialFields |= other.financialFields
  }

  count(name: FactName): number {
    return Math.min(name === 'financial_statement' ? bitCount(this.financialFields) : this[name], MAX_COUNT)
  }
}

function bitCount(bits: number): number {
  let count = 0
  for (let rest = bits; rest !== 0; rest &= rest - 1) count++
  return count
}
