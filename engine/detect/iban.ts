import { DIGIT_0, isDigit, isLetter, isAlphanumeric, HYPHEN, SPACE } from './alphabet.ts'

/** Length by country (SWIFT IBAN registry, release 99). */
const LENGTHS = new Uint8Array(26 * 26)
const REGISTRY =
  'AD24 AE23 AL28 AT20 AZ28 BA20 BE16 BG22 BH22 BI27 BR29 BY28 CH21 CR22 CY28 CZ24 DE22 DJ27 DK18 DO28 EE20 EG29 ES24 FI18 ' +
  'FK18 FO18 FR27 GB22 GE22 GI23 GL18 GR27 GT28 HN28 HR21 HU28 IE22 IL23 IQ23 IS26 IT27 JO30 KW30 KZ20 LB28 LC32 LI21 LT20 ' +
  'LU20 LV21 LY25 MC27 MD24 ME22 MK19 MN20 MR27 MT31 MU30 NI28 NL18 NO15 OM23 PK24 PL28 PS29 PT25 QA29 RO24 RS22 RU33 SA24 ' +
  'SC31 SD18 SE24 SI19 SK24 SM27 SO23 ST25 SV28 TL23 TN24 TR26 UA29 VA22 VG24 XK20 YE30'
for (const entry of REGISTRY.split(' '))
  LENGTHS[countryIndex(entry.charCodeAt(0), entry.charCodeAt(1))] = Number(entry.slice(2))

function countryIndex(first: number, second: number): number {
  return ((first | 0x20) - 0x61) * 26 + ((second | 0x20) - 0x61)
}

/**
 * The end of the IBAN (ISO 13616: country, two check digits, the country's length, mod 97-10 of ISO 7064) whose check digits
 * begin at `at`, or -1. Upper or lower case, written together or in groups of four (or eight)
 * with single spaces or hyphens: any other grouping finds «is404 flag for unmatched paths».
 */
export function endOfIban(bytes: Uint8Array, start: number, at: number, end: number): number {
  const country = at - 2
  if (country < start || !isLetter(bytes[country]!) || !isLetter(bytes[country + 1]!)) return -1
  if (country > start && isAlphanumeric(bytes[country - 1]!)) return -1
  const length = LENGTHS[countryIndex(bytes[country]!, bytes[country + 1]!)]!
  if (length === 0 || at + length - 2 > end) return -1
  if (!isDigit(bytes[at]!) || at + 1 >= end || !isDigit(bytes[at + 1]!)) return -1
  let rest = 0
  let seen = 4
  let i = at + 2
  for (; seen < length; i++) {
    if (i >= end) return -1
    const byte = bytes[i]!
    if (isDigit(byte)) rest = (rest * 10 + byte - DIGIT_0) % 97
    else if (isLetter(byte)) rest = (rest * 100 + (byte | 0x20) - 0x57) % 97
    else if ((byte === SPACE || byte === HYPHEN) && seen % 4 === 0 && isAlphanumeric(bytes[i - 1]!)) continue
    else return -1
    seen++
  }
  if (i < end && isAlphanumeric(bytes[i]!)) return -1
  const check = (bytes[at]! - DIGIT_0) * 10 + bytes[at + 1]! - DIGIT_0
  rest = (rest * 10_000 + ((bytes[country]! | 0x20) - 0x57) * 100 + ((bytes[country + 1]! | 0x20) - 0x57)) % 97
  return (rest * 100 + check) % 97 === 1 ? i : -1
}
