import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { FACT_NAMES, type FactName } from '#core/policy/decision.ts'
import { detectFacts } from './detect.ts'

const ALL: ReadonlySet<FactName> = new Set(FACT_NAMES)

/** Counts above zero, by fact. */
function findings(body: string | Buffer, mediaType: string): Partial<Record<FactName, number>> {
  const { facts, undecidable } = detectFacts(Buffer.from(body as string), mediaType, ALL)
  expect(undecidable).toEqual([])
  const found: Partial<Record<FactName, number>> = {}
  for (const name of FACT_NAMES) if (facts[name]!.count > 0) found[name] = facts[name]!.count
  return found
}

describe('payment cards', () => {
  it.each([
    // Numbers that schemes and processors publish for tests.
    { name: 'Visa', text: '4111111111111111', want: 1 },
    { name: 'Visa, 13 digits', text: '4222222222222', want: 1 },
    { name: 'Visa, 19 digits', text: '4000000000000000006', want: 1 },
    { name: 'Mastercard', text: '5555555555554444', want: 1 },
    { name: 'Mastercard, second range', text: '2223003122003222', want: 1 },
    { name: 'American Express', text: '378282246310005', want: 1 },
    { name: 'American Express in groups', text: '3782 822463 10005', want: 1 },
    { name: 'Discover', text: '6011111111111117', want: 1 },
    { name: 'Diners Club', text: '30569309025904', want: 1 },
    { name: 'JCB', text: '3530111333300000', want: 1 },
    { name: 'UnionPay', text: '6200000000000005', want: 1 },
    { name: 'Maestro', text: '6759649826438453', want: 1 },
    { name: 'spaces', text: 'card 4111 1111 1111 1111, thanks', want: 1 },
    { name: 'hyphens', text: '4111-1111-1111-1111', want: 1 },
    { name: 'no-break spaces', text: '4111\u00a01111\u00a01111\u00a01111', want: 1 },
    { name: 'another number before it', text: 'order 1234 4111 1111 1111 1111', want: 1 },
    { name: 'an expiry after it', text: '4111 1111 1111 1111 12/29', want: 1 },
    { name: 'two', text: '4111111111111111,5555555555554444', want: 2 },
    { name: 'in Chinese text', text: '卡号4111111111111111。', want: 1 },
    { name: 'at the end of a sentence', text: 'It is 4111111111111111.', want: 1 },
    { name: 'letters before', text: 'id4111111111111111', want: 1 },
    { name: 'letters before, in groups', text: 'card4111 1111 1111 1111', want: 1 },
    { name: 'letters after', text: '4111111111111111x', want: 1 },
    { name: 'an identifier before', text: 'id_4111111111111111', want: 1 },
    { name: 'underscores', text: '4111_1111_1111_1111', want: 1 },
    { name: 'slashes', text: 'x 4111/1111/1111/1111', want: 1 },
    { name: 'two spaces', text: '4111  1111  1111  1111', want: 1 },
    { name: 'en dashes', text: '4111–1111–1111–1111', want: 1 },
    { name: 'thin spaces', text: '4111\u20091111\u20091111\u20091111', want: 1 },
    { name: 'zero-width spaces', text: '4111\u200b1111\u200b1111\u200b1111', want: 1 },
    { name: 'soft hyphens between all digits', text: '4111111111111111'.split('').join('\u00ad'), want: 1 },
    { name: 'full-width digits', text: '４１１１１１１１１１１１１１１１', want: 1 },
    { name: 'Arabic digits in groups', text: '٤١١١ ١١١١ ١١١١ ١١١١', want: 1 },
    { name: 'digits of two scripts', text: '4111１１１１11111111', want: 1 },
    { name: 'Devanagari digits, wrong check digit', text: '४१११११११११११११२', want: 0 },
    { name: 'more digits of another script than a card has', text: '٤١١١١١١١١١١١١١١١'.repeat(3), want: 0 },
    { name: 'part of a path', text: '/2024/4111/1111/1111/1111', want: 0 },
    { name: 'a longer row with slashes', text: '4111/1111/1111/1111/2024', want: 0 },
    { name: 'a row with two spaces', text: '17  4111  1111  1111  1111', want: 0 },
    { name: 'a hex literal', text: '0x4111111111111111', want: 0 },
    { name: 'part of a token', text: 'x9k4111111111111111zq', want: 0 },
    { name: 'letters before, and a number that few issuers have', text: 'id5018000000000009', want: 0 },
    { name: 'wrong check digit', text: '4111111111111112', want: 0 },
    { name: 'no issuer has this prefix', text: '1111111111111117', want: 0 },
    { name: 'a prefix with a length it does not have', text: '41111111111111111111', want: 0 },
    { name: 'part of a longer number', text: '94111111111111111', want: 0 },
    { name: 'part of a hex digest', text: 'a4111111111111111b', want: 0 },
    { name: 'the decimals of a number', text: '0.4111111111111111', want: 0 },
    { name: 'a price', text: '4111111111111111.50', want: 0 },
    { name: 'a row of numbers', text: '4111 1 1 1 1 1 1 1 1 1 1 1 1', want: 0 },
    { name: 'milliseconds since 1970', text: '1764000000000', want: 0 },
    { name: 'nanoseconds since 1970', text: '1764000000000000000', want: 0 },
    { name: 'an IBAN in groups', text: 'GB29 NWBK 6016 1331 9268 19', want: 0 },
  ])('$name: $want', ({ text, want }) => {
    expect(findings(text, 'text/plain').payment_card ?? 0).toBe(want)
    expect(findings(JSON.stringify({ x: text }), 'application/json').payment_card ?? 0).toBe(want)
  })

  it.each([
    { name: 'an integer', text: '4111111111111111', want: 1 },
    { name: 'negative', text: '-4111111111111111', want: 1 },
    { name: 'with an exponent', text: '4.111111111111111e15', want: 1 },
    { name: 'with decimals that are zero', text: '4111111111111111.0', want: 1 },
    { name: 'decimals', text: '0.4111111111111111', want: 0 },
    { name: 'wrong check digit', text: '4111111111111112', want: 0 },
    { name: 'milliseconds since 1970', text: '1764000000000', want: 0 },
  ])('a JSON number, $name: $want', ({ text, want }) => {
    expect(findings(`{"x":${text}}`, 'application/json').payment_card ?? 0).toBe(want)
    expect(findings(`[1,${text} ]`, 'application/json').payment_card ?? 0).toBe(want)
  })
})

describe('IBAN', () => {
  it.each([
    // Examples of the SWIFT IBAN registry.
    { text: 'DE89370400440532013000', want: 1 },
    { text: 'DE89 3704 0044 0532 0130 00', want: 1 },
    { text: 'GB29NWBK60161331926819', want: 1 },
    { text: 'FR1420041010050500013M02606', want: 1 },
    { text: 'MT84MALT011000012345MTLCAST001S', want: 1 },
    { text: 'NO9386011117947', want: 1 },
    { text: 'ch9300762011623852957', want: 1 },
    { text: 'IBAN:NL91ABNA0417164300;', want: 1 },
    { text: 'LC55HEMM000100010012001200023015', want: 1 },
    { text: 'DE89370400440532013001', want: 0 },
    { text: 'DE8937040044053201300', want: 0 },
    { text: 'DE893704004405320130001', want: 0 },
    { text: 'XDE89370400440532013000', want: 0 },
    { text: 'ZZ89370400440532013000', want: 0 },
    { text: 'DE89 37040044 0532013000', want: 1 },
    { text: 'is404 flag for unmatched paths', want: 0 },
    { text: 'DE89  3704 0044 0532 0130 00', want: 0 },
  ])('$text: $want', ({ text, want }) => {
    expect(findings(text, 'text/plain').iban ?? 0).toBe(want)
    expect(findings(JSON.stringify([text]), 'application/json').iban ?? 0).toBe(want)
  })
})

describe('e-mail', () => {
  it.each([
    { text: 'alice@example.com', want: 1 },
    { text: 'Mail <alice.b+c@mail.example.co.uk>, please.', want: 1 },
    { text: "o'brien@example.org", want: 1 },
    { text: 'müller@exämple.de', want: 1 },
    { text: 'почта@пример.рф', want: 1 },
    { text: 'Write to alice@example.com.', want: 1 },
    { text: 'a@b.io;c@d.io', want: 2 },
    { text: 'mailto:alice@example.com?subject=x', want: 1 },
    { text: 'alice@example.com/inbox', want: 1 },
    { text: '2026-01-15T09:30:00 a@b.io', want: 1 },
    { text: 'alice@localhost', want: 0 },
    { text: '@alice', want: 0 },
    { text: 'alice@', want: 0 },
    { text: 'alice @ example.com', want: 0 },
    { text: 'alice.@example.com', want: 0 },
    { text: 'alice@.com', want: 0 },
    { text: 'react@18.2.0', want: 0 },
    { text: 'alice@example.c', want: 0 },
    { text: 'logo@2x.png and logo@1.5x.jpg', want: 0 },
    { text: 'git@github.com:owner/name', want: 0 },
    { text: 'https://medium.com/@ada.lovelace', want: 0 },
    { text: 'mailto:alice%40example.com', want: 1 },
    { text: '100% of %zz %4', want: 0 },
  ])('$text: $want', ({ text, want }) => {
    expect(findings(text, 'text/plain').email ?? 0).toBe(want)
    expect(findings(JSON.stringify({ x: text }), 'application/json').email ?? 0).toBe(want)
    expect(findings(JSON.stringify({ x: `\n${text}` }), 'application/json').email ?? 0).toBe(want)
    expect(findings(JSON.stringify({ [text]: 1 }), 'application/json').email ?? 0).toBe(want)
  })

  it.each([
    { name: 'a person on a page', mediaType: 'text/html', text: '<a href="mailto:alice@example.com">', want: 1 },
    { name: 'a function on a page', mediaType: 'text/html', text: '<a href="mailto:info@example.com">', want: 0 },
    { name: 'a function in data', mediaType: 'application/json', text: '"info@example.com"', want: 1 },
    {
      name: 'an author of a bundle',
      mediaType: 'text/javascript',
      text: '/*! (c) Feross <feross@example.org> */',
      want: 0,
    },
    { name: 'a value in JSONP', mediaType: 'application/javascript', text: 'cb({"x":"alice@example.com"})', want: 1 },
    { name: 'single quotes in code', mediaType: 'text/javascript', text: "x='alice@example.com'", want: 1 },
  ])('$name: $want', ({ mediaType, text, want }) => {
    expect(findings(text, mediaType).email ?? 0).toBe(want)
  })
})

describe('phone', () => {
  it.each([
    { text: '+14155550123', want: 1 },
    { text: '+49 30 901820', want: 1 },
    { text: 'call +44 (0)20 7946 0958 now', want: 1 },
    { text: '(415) 555-0123', want: 1 },
    { text: '415-555-0123', want: 1 },
    { text: '1.415.555.0123', want: 1 },
    { text: 'Tel.: 030 901820', want: 1 },
    { text: 'phone number: 0309018200', want: 1 },
    { text: 'Tel: 030/901820', want: 1 },
    { text: 'Tel. (030) 901820', want: 1 },
    { text: 'Phone: 1 (415) 555-0123', want: 1 },
    { text: 'Tel: 030 / 901820', want: 1 },
    { text: '+14155550123 +14155550124', want: 2 },
    { text: '01/02/2026', want: 0 },
    { text: '(2026) 1234567', want: 0 },
    { text: '2026-01-15T09:30:00.123+02:00', want: 0 },
    { text: '2026-01-15 09:30', want: 0 },
    { text: '1764000000', want: 0 },
    { text: '1764000000000', want: 0 },
    { text: '1234567890', want: 0 },
    { text: '1,234,567.89', want: 0 },
    { text: '1234567.89 EUR', want: 0 },
    { text: '+1234', want: 0 },
    { text: 'a+14155550123', want: 0 },
    { text: '192.168.100.200', want: 0 },
    { text: '123-456-7890', want: 0 },
    { text: '+1415555012345678', want: 0 },
    { text: '3fa85f64-5717-4562-b3fc-2c963f66afa6', want: 0 },
    { text: '9780306406157', want: 0 },
  ])('$text: $want', ({ text, want }) => {
    expect(findings(text, 'text/plain').phone ?? 0).toBe(want)
    expect(findings(JSON.stringify({ x: text }), 'application/json').phone ?? 0).toBe(want)
  })

  it.each([
    { json: { phone: '1-770-736-8031 x56442' }, want: 1 },
    { json: { phone: '+14155550123' }, want: 1 },
    { json: { mobileNumber: '030 901820' }, want: 1 },
    { json: { phones: ['030 901820', '030/901821'] }, want: 2 },
    { json: { customer_phone: 4155550123 }, want: 1 },
    { json: { phone: 'tel:+1-415-555-0123' }, want: 1 },
    { json: { phone: 'iPhone 17' }, want: 0 },
    { json: { phone: null }, want: 0 },
    { json: { phone: '' }, want: 0 },
    { json: { id: 4155550123 }, want: 0 },
    { json: { id: '4155550123' }, want: 0 },
  ])('$json: $want', ({ json, want }) => {
    expect(findings(JSON.stringify(json), 'application/json').phone ?? 0).toBe(want)
  })
})

describe('national ids', () => {
  it.each([
    { name: 'Steuer-ID', text: '86095742719', want: 1 },
    { name: 'Steuer-ID in groups', text: '86 095 742 719', want: 1 },
    { name: 'Steuer-ID, wrong check digit', text: '86095742718', want: 0 },
    { name: 'Steuer-ID, no digit repeated', text: '12345678903', want: 0 },
    { name: 'NIR', text: '255081416802538', want: 1 },
    { name: 'NIR in groups', text: '2 55 08 14 168 025 38', want: 1 },
    { name: 'NIR, wrong key', text: '255081416802539', want: 0 },
    { name: 'DNI', text: '12345678Z', want: 1 },
    { name: 'DNI with a hyphen', text: '12345678-Z', want: 1 },
    { name: 'DNI, wrong letter', text: '12345678A', want: 0 },
    { name: 'NIE', text: 'X1234567L', want: 1 },
    { name: 'NIE, wrong letter', text: 'X1234567M', want: 0 },
    { name: 'AHV', text: '756.9217.0769.85', want: 1 },
    { name: 'AHV together', text: '7569217076985', want: 1 },
    { name: 'AHV, wrong check digit', text: '756.9217.0769.84', want: 0 },
    { name: 'SSN with a label', text: 'SSN: 536-22-1234', want: 1 },
    { name: 'SSN with words for a label', text: 'social security number 536-22-1234', want: 1 },
    { name: 'SSN form without a label', text: 'part 536-22-1234', want: 0 },
    { name: 'NINO with a label', text: 'NINO: AB123456C', want: 1 },
    { name: 'NINO in groups with a label', text: 'National Insurance number: AB 12 34 56 C', want: 1 },
    { name: 'NINO form without a label', text: 'ref AB123456C', want: 0 },
  ])('$name: $want', ({ text, want }) => {
    expect(findings(text, 'text/plain').national_id ?? 0).toBe(want)
  })

  it.each([
    { json: { ssn: '536-22-1234' }, want: 1 },
    { json: { ssn: '536221234' }, want: 1 },
    { json: { ssn: 536221234 }, want: 1 },
    { json: { ssn: 12345678 }, want: 1 },
    { json: { social_security_number: '536 22 1234' }, want: 1 },
    { json: { ssn: '000-22-1234' }, want: 0 },
    { json: { ssn: '666-22-1234' }, want: 0 },
    { json: { ssn: '900-22-1234' }, want: 0 },
    { json: { ssn: '536-00-1234' }, want: 0 },
    { json: { ssn: '536-22-0000' }, want: 0 },
    { json: { ssn: '***-**-1234' }, want: 0 },
    { json: { nino: 'AB 12 34 56 C' }, want: 1 },
    { json: { nino: 'AB123456C' }, want: 1 },
    { json: { nino: 'GB123456C' }, want: 0 },
    { json: { nino: 'QQ123456C' }, want: 0 },
    { json: { nino: 'AB123456E' }, want: 0 },
    { json: { national_id: 'X1234567L' }, want: 1 },
    { json: { taxId: 86095742719 }, want: 1 },
    { json: { order: '536-22-1234' }, want: 0 },
    { json: { x: 'AB123456C' }, want: 0 },
    { json: { x: 86095742719 }, want: 0 },
  ])('$json: $want', ({ json, want }) => {
    expect(findings(JSON.stringify(json), 'application/json').national_id ?? 0).toBe(want)
  })
})

describe('names of persons', () => {
  it.each([
    { json: { first_name: 'Ada', lastName: 'Lovelace' }, want: 2 },
    { json: { 'Full Name': 'Ada Lovelace' }, want: 1 },
    { json: { customerName: '山田' }, want: 1 },
    { json: { patient: 'Ada Lovelace' }, want: 1 },
    { json: { name: 'Ada Lovelace', email: 'x' }, want: 1 },
    { json: { birthDate: '1815-12-10', name: 'Ada' }, want: 1 },
    { json: { customer: { name: 'Ada' } }, want: 1 },
    { json: { users: [{ name: 'Ada' }, { name: 'Grace' }] }, want: 2 },
    { json: [{ name: 'Ada', address: { street: 'x' } }, { name: 'Thing' }], want: 1 },
    { json: { name: 'Thing', price: 3 }, want: 0 },
    { json: { name: 'Thing', maker: { email: 'x' } }, want: 0 },
    { json: { first_name: '' }, want: 0 },
    { json: { first_name: '123' }, want: 0 },
    { json: { first_name: null }, want: 0 },
    { json: { username: 'ada' }, want: 0 },
    { json: { filename: 'ada' }, want: 0 },
  ])('$json: $want', ({ json, want }) => {
    expect(findings(JSON.stringify(json), 'application/json').person_name ?? 0).toBe(want)
  })

  it.each([
    { mediaType: 'text/csv', text: 'id,First Name,x\r\n1,Ada,y\r\n2,"Grace, B.",z\r\n', want: 2 },
    { mediaType: 'text/csv', text: 'name;birthday\nAda;1815-12-10\n', want: 1 },
    { mediaType: 'text/csv', text: 'name,price\nThing,3\n', want: 0 },
    { mediaType: 'text/csv', text: '\n\r\nx;last_name\n1;Lovelace\n', want: 1 },
    { mediaType: 'text/csv', text: '\n"a ""quoted"", header",last_name\nx,Lovelace', want: 1 },
    { mediaType: 'text/tab-separated-values', text: 'full_name\tx\nAda\t1\n', want: 1 },
    { mediaType: 'application/xml', text: '<p><first:lastName a="b">Lovelace</first:lastName></p>', want: 1 },
    { mediaType: 'text/plain', text: 'First name: Ada\nThing: Boxed', want: 1 },
    { mediaType: 'text/plain', text: '{"first_name":"ada"}', want: 1 },
    { mediaType: 'text/plain', text: 'type P = { firstName: string }', want: 0 },
    { mediaType: 'text/javascript', text: 'const p={firstName:e.firstName,lastName:"x"}', want: 0 },
    { mediaType: 'text/javascript', text: 'cb({"first_name":"Ada","last_name":"Lovelace"})', want: 2 },
    { mediaType: 'application/javascript', text: '/**/ a.b && a.b({"customer":{"name":"Ada"}});', want: 1 },
    { mediaType: 'text/javascript', text: 'window.state = {"users":[{"name":"Ada"}]};\n', want: 1 },
    { mediaType: 'text/javascript', text: "go({'first_name': 'Ada', n: 1})", want: 1 },
    { mediaType: 'text/html', text: '<script type="application/json">{"first_name":"Ada"}</script>', want: 1 },
    { mediaType: 'application/json', text: '{"a":"{\\"first_name\\":\\"Ada\\"}"}', want: 1 },
    {
      mediaType: 'application/json',
      text: JSON.stringify([JSON.stringify([JSON.stringify({ customer: { name: 'Ada' } })])]),
      want: 1,
    },
    { mediaType: 'application/json', text: JSON.stringify(['{"first_name":"Ada"} …']), want: 1 },
    { mediaType: 'application/json', text: JSON.stringify(["{'first_name': 'Ada'}"]), want: 1 },
    { mediaType: 'application/json', text: JSON.stringify(['{"name":"Thing"}', '[12:00] first_name']), want: 0 },
    { mediaType: 'application/vnd.ms-excel', text: 'sep=;\r\nid;first_name\r\n1;Ada\r\n', want: 1 },
    { mediaType: 'text/csv', text: 'sep=,\nid,first_name\n1,Ada\n', want: 1 },
    {
      mediaType: 'application/octet-stream',
      text: '{"customer":{"name":"ada"}}\n{"customer":{"name":"ada"}}',
      want: 2,
    },
    { mediaType: 'text/plain', text: '{"customer":{"name":"ada"}}', want: 1 },
    { mediaType: 'x/y', text: '<?xml version="1.0"?><p><lastName>Lovelace</lastName></p>', want: 1 },
    { mediaType: 'application/x-www-form-urlencoded', text: 'first%5Fname=Ada&name=x&last_name=', want: 2 },
  ])('$mediaType $text: $want', ({ mediaType, text, want }) => {
    expect(findings(text, mediaType).person_name ?? 0).toBe(want)
  })
})

describe('financial statements', () => {
  it.each([
    { mediaType: 'application/json', text: '{"totalAssets":1,"net_income":2,"Revenue":3}', want: 3 },
    { mediaType: 'application/json', text: '[{"revenue":1},{"revenue":2},{"total_revenue":3}]', want: 1 },
    { mediaType: 'application/json', text: '{"assets":["a.js"],"income":1,"cash":2}', want: 0 },
    { mediaType: 'text/csv', text: 'year,total_assets,ebitda\n2025,1,2\n', want: 2 },
    { mediaType: 'text/csv', text: 'item,2025\nTotal assets,1\nNet income,2\nCash flow,3', want: 3 },
    { mediaType: 'application/xml', text: '<r><EBITDA>1</EBITDA><NetIncome>2</NetIncome></r>', want: 2 },
    { mediaType: 'text/plain', text: 'Total assets: 12\nNet income: 3', want: 2 },
  ])('$mediaType $text: $want', ({ mediaType, text, want }) => {
    expect(findings(text, mediaType).financial_statement ?? 0).toBe(want)
  })
})

describe('what encodings must not hide', () => {
  it.each([
    {
      name: 'an escaped @ in JSON',
      mediaType: 'application/json',
      text: '{"x":"alice\\u0040example.com"}',
      want: { email: 1 },
    },
    {
      name: 'escaped digits in JSON',
      mediaType: 'application/json',
      text: '["4111\\u00311111111\\u0031111"]',
      want: { payment_card: 1 },
    },
    {
      name: 'an escaped name in JSON',
      mediaType: 'application/json',
      text: '{"first\\u005fname":"Ada"}',
      want: { person_name: 1 },
    },
    {
      name: 'a line feed before',
      mediaType: 'application/json',
      text: '["x\\n4111111111111111"]',
      want: { payment_card: 1 },
    },
    {
      name: 'an escaped @ under another type',
      mediaType: 'text/plain',
      text: '{"x":"alice\\u0040example.com"}',
      want: { email: 1 },
    },
    { name: 'a reference in HTML', mediaType: 'text/html', text: '<p>alice&#64;example&#x2E;com', want: { email: 1 } },
    {
      name: 'a named reference in HTML',
      mediaType: 'text/html',
      text: '<p>alice&commat;example.com',
      want: { email: 1 },
    },
    { name: 'another reference', mediaType: 'text/html', text: '<p>alice@example&period;com', want: { email: 1 } },
    { name: 'a long reference', mediaType: 'text/html', text: 'alice&#0000000064;example.com', want: { email: 1 } },
    { name: 'a reference that is none', mediaType: 'text/html', text: 'a&b &#; &#x110000; &#0; alice&#64', want: {} },
    { name: 'tags in an address', mediaType: 'text/html', text: '<p>alice<b>@</b>example.com', want: { email: 1 } },
    {
      name: 'tags in a number',
      mediaType: 'text/html',
      text: '4111<i title=">"></i>111111111111',
      want: { payment_card: 1 },
    },
    {
      name: 'a comment in a number',
      mediaType: 'text/html',
      text: '4111 1111<!-- > --> 1111 1111',
      want: { payment_card: 1 },
    },
    { name: 'cells of a table', mediaType: 'text/html', text: '<td>4111</td><td>111111111111</td>', want: {} },
    {
      name: 'a CDATA section',
      mediaType: 'text/xml',
      text: '<a><![CDATA[alice]]>@example.com</a>',
      want: { email: 1 },
    },
    { name: 'elements of XML', mediaType: 'text/xml', text: '<!--x--><b>4111</b><b>111111111111</b>', want: {} },
    { name: 'a URL', mediaType: 'text/html', text: '<a href="mailto:alice%40example.com">', want: { email: 1 } },
    {
      name: 'an address in a URL in a table',
      mediaType: 'text/csv',
      text: 'u\n/x?a=alice%40example.com',
      want: { email: 1 },
    },
    {
      name: 'digits in a URL',
      mediaType: 'application/json',
      text: '["4111%201111%201111%201111"]',
      want: { payment_card: 1 },
    },
    { name: 'a name in a URL', mediaType: 'application/json', text: '{"alice%40example.com":1}', want: { email: 1 } },
    { name: 'an escape of CSS', mediaType: 'text/css', text: 'a{content:"alice\\40 example.com"}', want: { email: 1 } },
    {
      name: 'an escape of JavaScript',
      mediaType: 'text/javascript',
      text: 'x="alice\\x40example.com"',
      want: { email: 1 },
    },
    {
      name: 'percent-encoding in a form',
      mediaType: 'application/x-www-form-urlencoded',
      text: 'x=alice%40example.com&y=4111+1111+1111+1111',
      want: { email: 1, payment_card: 1 },
    },
    { name: 'no media type', mediaType: '', text: 'alice@example.com', want: { email: 1 } },
    { name: 'a suffix', mediaType: 'application/vnd.api+json', text: '{"x":"alice@example.com"}', want: { email: 1 } },
    {
      name: 'NDJSON',
      mediaType: 'application/x-ndjson',
      text: '{"x":"a@b.io"}\n\n{"x":"c@d.io"}\n',
      want: { email: 2 },
    },
    {
      name: 'a JSON text sequence',
      mediaType: 'application/json-seq',
      text: '\x1e{"x":"a@b.io"}\n\x1e{"x":1}\n',
      want: { email: 1 },
    },
    { name: 'a CSV quote without end', mediaType: 'text/csv', text: 'a,"b\nalice@example.com', want: { email: 1 } },
    {
      name: 'a duplicate name',
      mediaType: 'application/json',
      text: '{"x":"alice@example.com","x":1}',
      want: { email: 1 },
    },
  ])('$name', ({ mediaType, text, want }) => {
    expect(findings(text, mediaType)).toEqual(want)
  })
})

describe('what cannot be read is undecidable', () => {
  const deep = (depth: number): string => '['.repeat(depth) + ']'.repeat(depth)
  it.each([
    { name: 'nothing', mediaType: 'application/json', body: '' },
    { name: 'truncated', mediaType: 'application/json', body: '{"x":"alice@example.com"' },
    { name: 'a trailing comma', mediaType: 'application/json', body: '[1,]' },
    { name: 'a comment', mediaType: 'application/json', body: '{} // x' },
    { name: 'two values', mediaType: 'application/json', body: '{}{}' },
    { name: 'a byte order mark', mediaType: 'application/json', body: '\ufeff{}' },
    { name: 'UTF-16', mediaType: 'application/json', body: Buffer.from('{"x":1}', 'utf16le') },
    { name: 'invalid UTF-8', mediaType: 'application/json', body: Buffer.from([0x22, 0xff, 0x22]) },
    { name: '65 deep', mediaType: 'application/json', body: deep(65) },
    { name: '10,000 deep', mediaType: 'application/json', body: deep(10_000) },
    { name: 'lines without a space between', mediaType: 'application/x-ndjson', body: '{}{}' },
    { name: 'a byte order mark', mediaType: 'text/csv', body: '\ufeffa,b' },
    { name: 'UTF-16', mediaType: 'text/plain', body: Buffer.from('alice@example.com', 'utf16le') },
    { name: 'Latin-1', mediaType: 'text/plain', body: Buffer.from('Müller', 'latin1') },
    { name: 'binary without media type', mediaType: '', body: Buffer.from([0, 1, 2]) },
  ])('$mediaType: $name', ({ mediaType, body }) => {
    const wanted = new Set<FactName>(['email', 'phone'])
    const { facts, undecidable } = detectFacts(Buffer.from(body as string), mediaType, wanted)
    expect({ facts, undecidable }).toEqual({ facts: {}, undecidable: ['email', 'phone'] })
  })

  it('reads 64 deep', () => {
    expect(findings(deep(63).replace('[]', '["a@b.io"]'), 'application/json')).toEqual({ email: 1 })
    expect(findings(deep(64), 'application/json')).toEqual({})
  })
})

describe('detectFacts', () => {
  it('does not read what holds no text', () => {
    const bodies = [
      { mediaType: 'image/png', body: Buffer.from('89504e470d0a1a0a0000000d49484452', 'hex') },
      { mediaType: 'application/zip', body: Buffer.from('504b0304140000000800', 'hex') },
      { mediaType: 'application/pdf', body: Buffer.from('%PDF-1.7\n% alice@example.com\n') },
      { mediaType: 'application/octet-stream', body: Buffer.from('1f8b0800000000000003', 'hex') },
      { mediaType: 'application/vnd.ms-excel', body: Buffer.from('d0cf11e0a1b11ae10000', 'hex') },
      { mediaType: 'x/y', body: Buffer.alloc(0) },
    ]
    for (const { mediaType, body } of bodies) {
      const { facts, undecidable } = detectFacts(body, mediaType, new Set<FactName>(['email']))
      expect({ mediaType, facts, undecidable }).toEqual({
        mediaType,
        facts: { email: { applicable: false, count: 0 } },
        undecidable: [],
      })
    }
  })

  it.each([
    { name: 'a table', body: 'first_name,born\nAda,1815\n', want: { person_name: 1 } },
    { name: 'a table of another delimiter', body: 'id\tphone\r\n1\t0171 1234567\r\n', want: { phone: 1 } },
    { name: 'a table after an empty line', body: '\n\nlast_name;x\n"Lovelace; Ada";1\n', want: { person_name: 1 } },
    { name: 'JSON', body: '[{"first_name":"Ada"}]', want: { person_name: 1 } },
    { name: 'an address in words', body: 'write to alice@example.com, please', want: { email: 1 } },
    {
      name: 'lines below a table',
      body: 'surname,x\nBabbage,1\nFirst name: Ada\nemail: a@b.io',
      want: { person_name: 3, email: 1 },
    },
    { name: 'words with commas', body: 'Patient, kind and wise,\nhe waited, and waited.\n', want: {} },
    { name: 'one line', body: 'first_name,last_name', want: {} },
  ])('reads text that is called text, or nothing at all: $name', ({ body, want }) => {
    for (const mediaType of ['text/plain', '', 'application/octet-stream', 'binary/octet-stream']) {
      expect([mediaType, findings(body, mediaType)]).toEqual([mediaType, want])
    }
  })

  it('takes application/octet-stream for binary where it is no text, and cannot decide on text with a byte order mark', () => {
    const of = (body: Buffer) => detectFacts(body, 'application/octet-stream', new Set<FactName>(['email']))
    const unread = { facts: { email: { applicable: false, count: 0 } }, undecidable: [] }
    expect(of(Buffer.alloc(0))).toEqual(unread)
    expect(of(Buffer.from([0x50, 0x4b, 3, 4, 0]))).toEqual(unread)
    expect(of(Buffer.from([0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a]))).toEqual(unread)
    expect(of(Buffer.from('\ufeffa@b.io'))).toEqual({ facts: {}, undecidable: ['email'] })
  })

  it('reads JSON and tables whatever they are called', () => {
    const body = '{"card":"4111111111111111","customer":{"name":"ada"},"email":"alice@example.com"}'
    for (const mediaType of [
      'json',
      '*/*',
      'unknown/unknown',
      'application/unknown',
      'application/octet-stream',
      'application/x-json',
      'application/vnd.ms-excel',
      'multipart/mixed',
      'message/http',
      'application/jsonp',
      'application/json5',
      'application/rtf',
      'image/png',
      'font/woff',
      'application/zip',
      'text/x',
      '',
    ]) {
      expect([mediaType, findings(body, mediaType)]).toEqual([mediaType, { payment_card: 1, person_name: 1, email: 1 }])
    }
    expect(findings('--x\r\ncontent-type: application/json\r\n\r\n{"a":"a@b.io"}\r\n--x--', 'multipart/mixed')).toEqual(
      {
        email: 1,
      },
    )
  })

  it.each([
    { name: 'Latin-1', mediaType: 'application/vnd.ms-excel', body: Buffer.from('id;name\n1;Müller', 'latin1') },
    { name: 'UTF-16', mediaType: 'application/octet-stream', body: Buffer.from('{"x":"a@b.io"}', 'utf16le') },
    { name: 'UTF-16 with a mark', mediaType: 'x/y', body: Buffer.from('\ufeffa@b.io', 'utf16le') },
    { name: 'a NUL far within', mediaType: 'x/y', body: Buffer.from(`${'a@b.io '.repeat(200)}\0`) },
    { name: 'a multipart with a picture', mediaType: 'multipart/mixed', body: Buffer.from('--x\n\n\0\n--x--') },
  ])('cannot decide on text that it cannot read, of whatever type: $name', ({ mediaType, body }) => {
    expect(detectFacts(body, mediaType, new Set<FactName>(['email']))).toEqual({ facts: {}, undecidable: ['email'] })
  })

  it.each([
    { charset: undefined, text: 'a@b.io', want: true },
    { charset: 'utf-8', text: 'ü a@b.io', want: true },
    { charset: 'utf8', text: 'ü', want: true },
    { charset: 'us-ascii', text: 'a', want: true },
    { charset: 'iso-8859-1', text: 'a', want: true },
    { charset: 'windows-1252', text: 'a', want: true },
    { charset: 'iso-8859-1', text: 'ü', want: false },
    { charset: 'utf-7', text: 'alice+AEA-example.com', want: false },
    { charset: 'iso-2022-jp', text: 'a', want: false },
    { charset: 'utf-16', text: 'a', want: false },
    { charset: '', text: 'a', want: false },
  ])('charset $charset, $text: readable $want', ({ charset, text, want }) => {
    const wanted = new Set<FactName>(['email'])
    for (const mediaType of ['text/plain', 'application/octet-stream']) {
      expect(detectFacts(Buffer.from(text), mediaType, wanted, charset).undecidable).toEqual(want ? [] : ['email'])
    }
    expect(detectFacts(Buffer.from('89504e470d0a1a0a00', 'hex'), 'image/png', wanted, charset).undecidable).toEqual([])
  })

  it('gives only what is wanted', () => {
    const { facts } = detectFacts(
      Buffer.from('"a@b.io +14155550123"'),
      'application/json',
      new Set<FactName>(['phone']),
    )
    expect(facts).toEqual({ phone: { applicable: true, count: 1 } })
  })

  it('stops counting at 1000', () => {
    expect(findings('a@b.io '.repeat(1500), 'text/plain')).toEqual({ email: 1000 })
  })

  it('takes as JSON exactly what JSON.parse takes', () => {
    const agrees = (text: string): void => {
      let isJson = true
      try {
        JSON.parse(text)
      } catch {
        isJson = false
      }
      const { undecidable } = detectFacts(Buffer.from(text), 'application/json', ALL)
      expect({ text, isJson: undecidable.length === 0 }).toEqual({ text, isJson })
    }
    fc.assert(fc.property(fc.json({ maxDepth: 20 }), agrees))
    // Texts that are nearly JSON.
    const pieces = [
      '{',
      '}',
      '[',
      ']',
      ':',
      ',',
      '"',
      '"a"',
      '\\',
      '\\u00e9',
      '\\u12',
      '0',
      '1',
      '-',
      '.',
      'e',
      '+',
      'true',
      'null',
      ' ',
      '\n',
      '\t',
      '\u0001',
    ]
    fc.assert(
      fc.property(
        fc.array(fc.constantFrom(...pieces), { maxLength: 8 }).map((parts) => parts.join('')),
        agrees,
      ),
      { numRuns: 5000 },
    )
    fc.assert(
      fc.property(fc.json({ maxDepth: 3 }), fc.nat(), fc.constantFrom(...pieces, ''), (text, at, piece) => {
        const cut = at % (text.length + 1)
        agrees(text.slice(0, cut) + piece + text.slice(cut + 1))
      }),
      { numRuns: 2000 },
    )
  })

  it('survives any bytes, under any media type', () => {
    const mediaType = fc.constantFrom(
      'application/json',
      'application/x-ndjson',
      'text/csv',
      'text/html',
      'text/plain',
      'text/javascript',
      'application/x-www-form-urlencoded',
    )
    const text = fc.array(
      fc.constantFrom(
        '@',
        '.',
        '4111',
        ' ',
        '-',
        '+',
        '(',
        ')',
        'DE89',
        'tel:',
        '"',
        ',',
        '\n',
        '<fname>',
        '%40',
        '&#64;',
        '\\u0040',
        'a',
        '1',
      ),
      { maxLength: 60 },
    )
    fc.assert(
      fc.property(
        fc.oneof(
          fc.uint8Array({ maxLength: 200 }),
          text.map((parts) => Buffer.from(parts.join(''))),
        ),
        mediaType,
        (bytes, type) => {
          const { facts, undecidable } = detectFacts(Buffer.from(bytes), type, ALL)
          expect(Object.keys(facts).length + undecidable.length).toBe(FACT_NAMES.length)
        },
      ),
      { numRuns: 2000 },
    )
  })

  it('finds what is put anywhere into a JSON document', () => {
    fc.assert(
      fc.property(fc.jsonValue({ maxDepth: 4 }), fc.string(), fc.string(), (value, before, after) => {
        const text = JSON.stringify({ a: value, b: [`${before} alice@example.com 4111111111111111 ${after}`] })
        const found = findings(text, 'application/json')
        expect(found.email).toBeGreaterThanOrEqual(1)
        expect(found.payment_card).toBeGreaterThanOrEqual(1)
      }),
    )
  })
})
