import { isAlphanumeric } from './alphabet.ts'

/** What a label (JSON name, column header, element name, word before a colon) says of its value. A set of bits. */
export const LABEL = {
  PERSON_NAME: 1,
  /** `name` and the like: a person's only beside another label of a person. */
  PLAIN_NAME: 2,
  PHONE: 4,
  SSN: 8,
  NINO: 16,
  /** A national id of whichever country. */
  NATIONAL_ID: 32,
  /** Makes a person's name of a plain name beside it. */
  PERSON_DETAIL: 64,
  /** An object below this label is a person. */
  PERSON: 128,
} as const

/** Bits that say that the value is a number to look at. */
export const NUMBERED = LABEL.PHONE | LABEL.SSN | LABEL.NINO | LABEL.NATIONAL_ID
/** A label of a financial statement holds its field's number, from 1, above the bits. */
const FINANCIAL_SHIFT = 8

export function financialField(label: number): number {
  return label >> FINANCIAL_SHIFT
}

const PEOPLE =
  'customer client user patient employee person contact member guest passenger applicant beneficiary student owner holder ' +
  'card_holder account_holder cardholder recipient subscriber insured policy_holder policyholder guardian parent spouse billing ' +
  'shipping emergency_contact emergency borrower donor voter resident citizen'

const PERSON_NAMES =
  'first_name last_name full_name given_name family_name middle_name maiden_name surname forename fname lname firstname lastname ' +
  'vorname nachname prenom nom_de_famille apellido apellidos cognome birth_name legal_name_of_person'

const PHONES =
  'phone phones phone_number phone_numbers phone_no telephone telephone_number tel tel_no mobile mobile_phone mobile_number mobile_no ' +
  'cell cell_phone cellphone cell_number msisdn fax fax_number home_phone work_phone daytime_phone evening_phone telefon ' +
  'telefonnummer handy telefono telefone contact_number'

const DETAILS =
  'email emails e_mail email_address mail birth_date birthdate date_of_birth dob birthday born address addresses street ' +
  'street_address home_address postal_address gender sex nationality marital_status salary passport passport_number iban'

/** Each line is one field of a financial statement, under its usual names. */
const FINANCIAL = `
total_assets
current_assets total_current_assets
non_current_assets noncurrent_assets total_non_current_assets fixed_assets
liabilities total_liabilities
current_liabilities total_current_liabilities
equity total_equity shareholders_equity shareholder_equity stockholders_equity stockholder_equity owners_equity
net_income net_profit net_earnings profit_after_tax net_loss
gross_profit gross_margin
operating_income operating_profit ebit income_from_operations
ebitda adjusted_ebitda
revenue revenues total_revenue total_revenues net_revenue net_revenues net_sales sales_revenue
cost_of_goods_sold cogs cost_of_revenue cost_of_sales
operating_expenses total_operating_expenses opex
cash_flow cash_flows operating_cash_flow free_cash_flow cash_flow_from_operations cash_from_operating_activities net_cash_flow
retained_earnings accumulated_deficit
earnings_per_share eps basic_eps diluted_eps
balance_sheet
income_statement profit_and_loss statement_of_operations
accounts_receivable trade_receivables
accounts_payable trade_payables
depreciation depreciation_and_amortization amortization
long_term_debt total_debt
income_tax income_tax_expense tax_expense income_before_tax profit_before_tax
interest_expense interest_income
cash_and_cash_equivalents cash_equivalents
working_capital
dividends dividends_paid`

/** A byte as it counts in a label: lower case; 0 for what is between words (`_`, `-`, space). */
const NORMAL = new Uint8Array(256)
for (let byte = 0; byte < 256; byte++) {
  if (byte >= 0x80) NORMAL[byte] = byte
  else if (isAlphanumeric(byte)) NORMAL[byte] = byte < 0x40 ? byte : byte | 0x20
}

const MAX_LABEL = 48

/** FNV-1a over letters and digits, lower case: `firstName`, `First name` and `FIRST_NAME` are one. */
export const HASH_SEED = 0x811c9dc5 | 0
const SLOTS = 16_384
const slots = new Int16Array(SLOTS)
const entries: { name: Buffer; label: number }[] = [{ name: Buffer.alloc(0), label: 0 }]

function define(names: string, label: number): void {
  for (const written of names.split(/\s+/)) {
    const name = Buffer.from(written.replaceAll('_', ''))
    const hash = hashOf(name, 0, name.length)
    let slot = (hash ^ (hash >>> 15)) & (SLOTS - 1)
    while (slots[slot] !== 0 && !entries[slots[slot]!]!.name.equals(name)) slot = (slot + 1) & (SLOTS - 1)
    if (slots[slot] === 0) slots[slot] = entries.push({ name, label }) - 1
    else entries[slots[slot]!]!.label |= label
  }
}

for (const prefix of ['', ...PEOPLE.split(' ')]) {
  const prefixed = (names: string): string => names.replaceAll(/\S+/g, (name) => `${prefix}${name}`)
  define(prefixed(PERSON_NAMES), LABEL.PERSON_NAME | LABEL.PERSON_DETAIL)
  define(prefixed(PHONES), LABEL.PHONE | LABEL.PERSON_DETAIL)
  define(prefixed(DETAILS), LABEL.PERSON_DETAIL)
  define(
    prefixed('ssn social_security_number social_security_no social_security social_security_num ssn_number us_ssn'),
    LABEL.SSN | LABEL.PERSON_DETAIL,
  )
  define(
    prefixed('nino national_insurance_number national_insurance_no national_insurance ni_number'),
    LABEL.NINO | LABEL.PERSON_DETAIL,
  )
  define(
    prefixed(
      'national_id national_id_number national_identifier national_identity_number nationalid identity_number personal_id personal_number ' +
        'personal_identification_number tax_id tax_id_number tin taxpayer_id tax_number steuer_id steuerid steuer_idnr idnr ' +
        'steuerliche_identifikationsnummer nir numero_securite_sociale dni nie nif ahv ahv_number ahv_nummer avs sozialversicherungsnummer',
    ),
    LABEL.NATIONAL_ID | LABEL.PERSON_DETAIL,
  )
  // `customer_name`, `patient`: with who is meant before it, a name is a person's.
  // `username` is how somebody logs in.
  if (prefix !== '') define(`${prefix}name ${prefix}names`, prefix === 'user' ? LABEL.PERSON_DETAIL : LABEL.PERSON_NAME)
}
define(
  'patient patients person persons people employee employees passenger passengers cardholder applicant student students',
  LABEL.PERSON_NAME | LABEL.PERSON,
)
define(
  'customer customers client clients user users contact contacts member members guest guests beneficiary recipient',
  LABEL.PERSON,
)
define('name names display_name nom nombre nome', LABEL.PLAIN_NAME)
FINANCIAL.trim()
  .split('\n')
  .forEach((line, index) => define(line, (index + 1) << FINANCIAL_SHIFT))

export function hashByte(hash: number, byte: number): number {
  const normal = NORMAL[byte]!
  return normal === 0 ? hash : Math.imul(hash ^ normal, 0x01000193)
}

function hashOf(bytes: Uint8Array, start: number, end: number): number {
  let hash = HASH_SEED
  for (let i = start; i < end; i++) hash = hashByte(hash, bytes[i]!)
  return hash
}

/** The label written in `bytes[start, end)`, or 0 where it says nothing that detectors know. */
export function labelOf(bytes: Uint8Array, start: number, end: number): number {
  return end - start > MAX_LABEL ? 0 : lookUp(hashOf(bytes, start, end), bytes, start, end)
}

/** `labelOf` for who has run over the bytes already: `hash` began as `HASH_SEED` and took `hashByte` of each byte. */
export function labelOfHashed(hash: number, bytes: Uint8Array, start: number, end: number): number {
  return end - start > MAX_LABEL ? 0 : lookUp(hash, bytes, start, end)
}

function lookUp(hash: number, bytes: Uint8Array, start: number, end: number): number {
  const first = (hash ^ (hash >>> 15)) & (SLOTS - 1)
  for (let slot = first; slots[slot] !== 0; slot = (slot + 1) & (SLOTS - 1)) {
    const entry = entries[slots[slot]!]!
    if (isWritten(entry.name, bytes, start, end)) return entry.label
  }
  return 0
}

function isWritten(name: Uint8Array, bytes: Uint8Array, start: number, end: number): boolean {
  let at = 0
  for (let i = start; i < end; i++) {
    const byte = NORMAL[bytes[i]!]!
    if (byte === 0) continue
    if (at === name.length || name[at] !== byte) return false
    at++
  }
  return at === name.length
}
