import fc from 'fast-check'
import { expect, test } from 'vitest'
import { canonicalize } from '../canonical/jcs.ts'
import type { JsonValue } from '../json/value.ts'
import { CsvReader } from './csv.ts'
import { formatCsvRow, formatRecordLine, readCsvRow, readRecordLine, type ExportedRecord } from './line.ts'

const ID = '0197a0b0-0000-7000-8000-000000000001'
const recordOf = (context: JsonValue): JsonValue => ({
  event: { actor: '=1+1', context, event_id: ID, latency_ms: 1.5, tenant: 'acme' },
  producer_id: 'demo/api',
  spool_seq: null,
  v: 1,
})
const exported = (record: string, changes: Partial<ExportedRecord> = {}): ExportedRecord => ({
  seq: 7,
  event_id: ID,
  commitment: 'a'.repeat(64),
  link_hash: 'b'.repeat(64),
  nonce: 'c'.repeat(64),
  record,
  scrubbed: [],
  ...changes,
})

test('what is written reads back to the byte, whatever the record holds', () => {
  // Texts that look like what stands around the record.
  const hostile = fc.constantFrom(',"scrubbed":', '"record":', ',"seq":1}', '\\",', '\r\n"', "'=", '\u2028')
  const context = fc.oneof(
    fc.jsonValue({ maxDepth: 3 }),
    fc.dictionary(fc.oneof(hostile, fc.constantFrom('record', 'scrubbed', 'seq')), hostile),
  )
  fc.assert(
    fc.property(context, (value) => {
      const parsed = recordOf(JSON.parse(JSON.stringify(value)) as JsonValue)
      const record = exported(canonicalize(parsed))
      const line = formatRecordLine(record)
      expect(readRecordLine(line)).toMatchObject(record)
      // As README.txt says to find it.
      expect(line.slice(line.indexOf('"record":') + 9, line.lastIndexOf(',"scrubbed":'))).toBe(record.record)
      const reader = new CsvReader(100_000)
      const [row = []] = reader.push(formatCsvRow(record, parsed))
      reader.end()
      expect(readCsvRow(row)).toMatchObject(record)
    }),
  )
})

test.each([
  { what: 'a space', edit: (line: string) => line.replace('{', '{ ') },
  { what: 'another member', edit: (line: string) => line.replace('{', '{"a":1,') },
  { what: 'a member twice', edit: (line: string) => line.replace('"seq":7', '"seq":7,"seq":7') },
  { what: 'another event id', edit: (line: string) => line.replace(ID, ID.replace('1', '2')) },
  { what: 'a number in another form', edit: (line: string) => line.replace('1.5', '1.50') },
  { what: 'a short hash', edit: (line: string) => line.replace('aaa', 'aa') },
  { what: 'number 0', edit: (line: string) => line.replace('"seq":7', '"seq":0') },
])('a line with $what is refused', ({ edit }) => {
  const line = formatRecordLine(exported(canonicalize(recordOf({}))))
  expect(edit(line)).not.toBe(line)
  expect(() => readRecordLine(edit(line))).toThrow(expect.objectContaining({ code: 'EXPORT_INVALID' }))
})

test('a row whose columns say something else than its record is refused', () => {
  const parsed = recordOf({})
  const text = formatCsvRow(exported(canonicalize(parsed)), parsed)
  const read = (row: string): unknown => readCsvRow(new CsvReader(10_000).push(row)[0] ?? [])
  expect(() => read(text)).not.toThrow()
  expect(() => read(text.replace("'=1+1", 'user:bob'))).toThrow('the column actor')
  expect(() => read(text.replace('demo/api', 'demo/other'))).toThrow('the column producer_id')
  expect(() => read(text.replace(',', ',,'))).toThrow('cells')
})
