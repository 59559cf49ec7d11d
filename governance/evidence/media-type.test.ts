import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { SignetError } from '#core/error/signet-error.ts'
import { MEDIA_TYPES, requireMediaType } from './media-type.ts'

const XLSX = 'application/vnd.openxmlformats-officedocument.spreadsheetml.sheet'
const PDF = Buffer.from('%PDF-1.7\n1 0 obj\n<<>>\nendobj\n%%EOF\n')
const PNG = Buffer.from(
  'iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==',
  'base64',
)
const JPEG = Buffer.from('ffd8ffe000104a46494600010100000100010000ffd9', 'hex')

/** A zip file with entries that are not compressed, as far as a reader of its local headers goes (APPNOTE 4.3.7). */
function zip(entries: Record<string, string>): Buffer {
  return Buffer.concat(
    Object.entries(entries).flatMap(([name, text]) => {
      const header = Buffer.alloc(30)
      header.writeUInt32LE(0x04034b50, 0)
      header.writeUInt16LE(20, 4)
      header.writeUInt32LE(text.length, 18)
      header.writeUInt32LE(text.length, 22)
      header.writeUInt16LE(name.length, 26)
      return [header, Buffer.from(name), Buffer.from(text)]
    }),
  )
}
const workbook = (type: string): Buffer =>
  zip({
    '[Content_Types].xml': `<Types><Override PartName="/xl/workbook.xml" ContentType="${type}"/></Types>`,
    'xl/workbook.xml': '<workbook/>',
  })
const SHEET = workbook(`${XLSX}.main+xml`)

describe('requireMediaType takes', () => {
  it.each([
    { name: 'a PDF', bytes: PDF, declared: 'application/pdf' },
    { name: 'a PNG', bytes: PNG, declared: 'image/png' },
    { name: 'a JPEG', bytes: JPEG, declared: 'IMAGE/JPEG' },
    { name: 'a workbook', bytes: SHEET, declared: XLSX },
    { name: 'text', bytes: Buffer.from('Grüße\r\n\t'), declared: 'text/plain; charset=utf-8' },
    { name: 'CSV', bytes: Buffer.from('a,b\n1,2\n'), declared: 'text/csv' },
    { name: 'Markdown', bytes: Buffer.from('# A'), declared: 'text/markdown; charset="UTF-8"' },
    { name: 'JSON', bytes: Buffer.from('{"a":1}'), declared: 'application/json' },
  ])('$name', async ({ bytes, declared }) => {
    expect(await requireMediaType(bytes, declared)).toBe(declared.replace(/;.*/, '').toLowerCase())
  })
})

describe('requireMediaType refuses', () => {
  it.each([
    { name: 'no type', bytes: PDF, declared: undefined, want: /has to be one of application\/pdf/ },
    {
      name: 'a type that is not listed',
      bytes: Buffer.from('<html>'),
      declared: 'text/html',
      want: /has to be one of/,
    },
    { name: 'the name of a member of all objects', bytes: PDF, declared: 'constructor', want: /has to be one of/ },
    {
      name: 'another charset',
      bytes: Buffer.from('a'),
      declared: 'text/plain; charset=utf-7',
      want: /has to be one of/,
    },
    {
      name: 'a program called PDF',
      bytes: Buffer.from('\x7fELF\x02\x01\x01\0'),
      declared: 'application/pdf',
      want: /else/,
    },
    { name: 'a PDF called PNG', bytes: PDF, declared: 'image/png', want: /image\/png, and is application\/pdf/ },
    { name: 'a PDF called text', bytes: PDF, declared: 'text/plain', want: /text\/plain, and is application\/pdf/ },
    { name: 'a page called PDF', bytes: Buffer.from('<script>'), declared: 'application/pdf', want: /and is text/ },
    { name: 'text with U+0000', bytes: Buffer.from('a\0b'), declared: 'text/plain', want: /something else/ },
    { name: 'text that is not UTF-8', bytes: Buffer.from('a\xffb', 'latin1'), declared: 'text/plain', want: /else/ },
    { name: 'JSON that does not parse', bytes: Buffer.from('{'), declared: 'application/json', want: /does not parse/ },
    { name: 'a folder', bytes: zip({ 'a.exe': 'MZ' }), declared: XLSX, want: /application\/zip/ },
    {
      name: 'a workbook with macros',
      bytes: workbook('application/vnd.ms-excel.sheet.macroEnabled.main+xml'),
      declared: XLSX,
      want: /macroenabled/i,
    },
  ])('$name', async ({ bytes, declared, want }) => {
    const error = await requireMediaType(bytes, declared).catch((thrown: unknown) => thrown as SignetError)
    expect(error).toMatchObject({ code: 'MEDIA_TYPE_REFUSED' })
    expect((error as SignetError).message).toMatch(want)
  })
})

it('whatever comes is taken or refused, and never as binary that is not what it says', async () => {
  const types = Object.keys(MEDIA_TYPES)
  const starts = [PDF, PNG, JPEG, SHEET, Buffer.from('PK\x03\x04'), Buffer.from('{')]
  await fc.assert(
    fc.asyncProperty(
      fc.constantFrom(...types, 'text/html'),
      fc.constantFrom(...starts, Buffer.alloc(0)),
      fc.nat(400),
      fc.uint8Array({ maxLength: 200 }),
      async (declared, start, cut, tail) => {
        const bytes = Buffer.concat([start.subarray(0, cut), tail])
        try {
          expect(await requireMediaType(bytes, declared)).toBe(declared)
        } catch (error) {
          expect(error).toMatchObject({ code: 'MEDIA_TYPE_REFUSED' })
        }
      },
    ),
  )
})
