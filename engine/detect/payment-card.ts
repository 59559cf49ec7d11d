/**
 * Whether 13 to 19 digits are a payment card number: a prefix and length that issuers use (ISO/IEC 7812 ranges as the schemes
 * publish them) and the Luhn check digit. `digits` holds values 0–9, not characters.
 */
export function isPaymentCard(digits: Uint8Array, length: number): boolean {
  return hasIssuerPrefix(digits, length) && passesLuhn(digits, length)
}

/**
 * `isPaymentCard` with only the prefixes and lengths of nearly all cards: for digits in places where numbers of all kinds stand,
 * and where Maestro's any length would find one in 200 of them.
 */
export function isCommonCard(digits: Uint8Array, length: number): boolean {
  if (length < 14 || length > 16) return false
  const four = digits[0]! * 1000 + digits[1]! * 100 + digits[2]! * 10 + digits[3]!
  const two = Math.trunc(four / 100)
  const three = Math.trunc(four / 10)
  const isCommon =
    length === 16
      ? digits[0] === 4 ||
        (two >= 51 && two <= 55) ||
        (four >= 2221 && four <= 2720) ||
        four === 6011 ||
        (three >= 644 && three <= 659) ||
        (four >= 3528 && four <= 3589) ||
        two === 62
      : length === 15
        ? two === 34 || two === 37
        : (three >= 300 && three <= 305) || three === 309 || two === 36 || two === 38 || two === 39
  return isCommon && passesLuhn(digits, length)
}

/** Luhn, ISO/IEC 7812-1 annex B. */
function passesLuhn(digits: Uint8Array, length: number): boolean {
  let sum = 0
  for (let i = length - 1, double = false; i >= 0; i--, double = !double) {
    const digit = digits[i]!
    sum += double ? (digit > 4 ? digit * 2 - 9 : digit * 2) : digit
  }
  return sum % 10 === 0
}

function hasIssuerPrefix(digits: Uint8Array, length: number): boolean {
  if (length < 13 || length > 19) return false
  const two = digits[0]! * 10 + digits[1]!
  const three = two * 10 + digits[2]!
  const four = three * 10 + digits[3]!
  switch (digits[0]) {
    case 2:
      // Mir; Mastercard's second range.
      return (length >= 16 && four >= 2200 && four <= 2204) || (length === 16 && four >= 2221 && four <= 2720)
    case 3:
      if (two === 34 || two === 37) return length === 15
      if (four >= 3528 && four <= 3589) return length >= 16
      return (
        ((three >= 300 && three <= 305) || three === 309 || two === 36 || two === 38 || two === 39) &&
        (length === 14 || length === 16)
      )
    case 4:
      return length === 13 || length === 16 || length === 19
    case 5:
      // Mastercard; Maestro, and Verve in 506–507.
      return two >= 51 && two <= 55 ? length === 16 : two === 50 || two >= 56
    case 6:
      // Discover, UnionPay, RuPay and Maestro share what begins with 6.
      if (two === 60 || two === 65 || (three >= 644 && three <= 649)) return length === 16 || length === 19
      return two === 62 ? length >= 16 : two === 63 || two === 67
    case 8:
      // UnionPay's and RuPay's newer ranges.
      return (two === 81 || two === 82) && length === 16
    case 9:
      // Troy.
      return four === 9792 && length === 16
    default:
      return false
  }
}
