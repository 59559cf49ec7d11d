import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { FACT_NAMES, type FactName } from '#core/policy/decision.ts'
import { detectInText } from './header.ts'

const ALL: ReadonlySet<FactName> = new Set(FACT_NAMES)

describe('findings in header values', () => {
  it.each([
    { value: '/p?card=4111111111111111&email=alice@example.com', want: { email: 1, payment_card: 1 } },
    { value: '/p?email=alice%40example.com', want: { email: 1 } },
    { value: '/p?card=%34111%201111%201111%201111', want: { payment_card: 1 } },
    { value: '/customers/4111111111111111/orders', want: { payment_card: 1 } },
    { value: 'u=alice@example.com; Path=/', want: { email: 1 } },
    { value: 'attachment; filename="alice@example.com.csv"', want: { email: 1 } },
    { value: "attachment; filename*=UTF-8''alice%40example.com.csv", want: { email: 1 } },
    { value: '4111-1111-1111-1111', want: { payment_card: 1 } },
    { value: 'DE89 3704 0044 0532 0130 00', want: { iban: 1 } },
    { value: '/pay?iban=GB29NWBK60161331926819', want: { iban: 1 } },
    { value: '/p?ssn=536-22-1234', want: { national_id: 1 } },
    { value: '/p?tax_id=86095742719', want: { national_id: 1 } },
    { value: '/p?nino=AB123456C', want: { national_id: 1 } },
    { value: '/p?dni=12345678Z', want: { national_id: 1 } },
    // A character for each byte, as Node gives them.
    { value: Buffer.from('４１１１１１１１１１１１１１１１').toString('latin1'), want: { payment_card: 1 } },
    { value: '４１１１１１１１１１１１１１１１', want: { payment_card: 1 } },
  ])('$value', ({ value, want }) => {
    expect(detectInText(['nginx', value, 'gzip'], ALL)).toEqual(want)
  })

  it.each([
    { name: 'a time', value: 'Wed, 25 Nov 2026 01:54:23 GMT' },
    { name: 'a time in ISO 8601', value: '2026-11-25T01:54:23.123456+02:00' },
    { name: 'a strong tag', value: '"4111111111111111a"' },
    { name: 'a digest', value: `sha-256=:${Buffer.from('x'.repeat(32)).toString('base64')}:` },
    { name: 'a hex digest with a card number in it', value: 'W/"5f4111111111111111ab"' },
    { name: 'a card number in a longer token', value: 'sid=k4111111111111111z; Path=/; HttpOnly' },
    { name: 'words that touch a number', value: 'id4111111111111111' },
    { name: 'milliseconds', value: '1764000000000' },
    { name: 'nanoseconds', value: '1764000000000000000' },
    { name: 'a number of which few issuers have the length', value: '501800000000000017' },
    { name: 'analytics', value: '_ga=GA1.2.1234567890.1764000000; _fbp=fb.1.1764000000000.1234567890' },
    { name: 'a trace', value: '00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01' },
    { name: 'a UUID', value: '41111111-1111-4111-8111-111111111111' },
    { name: 'a DSN', value: 'https://9f86d081884c7d659a2feaa0c55ad015@o1.ingest.example.com/123456' },
    { name: 'a package', value: '<https://cdn.example.com/@scope/name@1.2.3/x.js>; rel=preload' },
    { name: 'an unlabelled check digit', value: '86095742719' },
    { name: 'an unlabelled DNI', value: 'v=12345678Z' },
    { name: 'a phone number', value: '+14155550123' },
    { name: 'an age', value: 'max-age=31536000; includeSubDomains' },
    {
      name: 'a JWT',
      value: 'eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9PlFUP0THsR8U',
    },
  ])('$name: none', ({ value }) => {
    expect(detectInText([value], ALL)).toEqual({})
  })

  it('gives only what is wanted, and no names', () => {
    const values = ['alice@example.com', 'first_name=Ada 4111111111111111']
    expect(detectInText(values, new Set<FactName>(['email', 'person_name']))).toEqual({ email: 1 })
  })

  it('finds nothing in opaque tokens', () => {
    const token = fc.uint8Array({ minLength: 16, maxLength: 64 }).map((bytes) => Buffer.from(bytes))
    const written = fc
      .tuple(token, fc.constantFrom('hex', 'base64', 'base64url'))
      .map(([bytes, form]) => bytes.toString(form as 'hex'))
    fc.assert(
      fc.property(written, (text) => {
        expect(detectInText([text, `sid=${text}; Path=/`, `W/"${text}"`], ALL)).toEqual({})
      }),
      { numRuns: 3000 },
    )
  })
})
