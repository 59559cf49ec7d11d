/**
 * Microseconds per KB of the detectors, beside what they must not cost more than: `node engine/detect/detect.bench.ts`.
 * Runs by hand; times are of this machine.
 */
import { FACT_NAMES } from '#core/policy/decision.ts'
import { detectFacts } from './detect.ts'

const ALL = new Set(FACT_NAMES)

function orders(bytes: number): Buffer {
  const items: unknown[] = []
  for (let i = 0, size = 0; size < bytes; i++) {
    const item = {
      id: 1_000_000 + i,
      createdAt: new Date(1_700_000_000_000 + i * 61_000).toISOString(),
      status: 'shipped',
      sku: `A-${i}-XL`,
      title: 'A thing of some kind, in a box of another kind',
      price: 19.99 + i,
      quantity: i % 7,
      tags: ['new', 'sale', 'summer'],
      dimensions: { width: 12.5, height: 8.25, depth: 3 },
      url: `https://shop.example/items/${i}?ref=list`,
    }
    size += JSON.stringify(item).length
    items.push(item)
  }
  return Buffer.from(JSON.stringify({ items }))
}

function people(bytes: number): Buffer {
  const items: unknown[] = []
  for (let i = 0, size = 0; size < bytes; i++) {
    const item = {
      firstName: 'Ada',
      lastName: `Lovelace ${i}`,
      email: `ada.${i}@example.com`,
      phone: '+44 20 7946 0958',
      iban: 'DE89370400440532013000',
      card: '4111 1111 1111 1111',
      note: 'Called twice,\nno answer',
    }
    size += JSON.stringify(item).length
    items.push(item)
  }
  return Buffer.from(JSON.stringify({ items }))
}

function table(bytes: number): Buffer {
  const lines = ['id,date,product,amount,customer_name,email']
  for (let i = 0, size = 0; size < bytes; i++) {
    const line = `${i},2026-01-15,"Thing, boxed",${(i * 1.37).toFixed(2)},Ada Lovelace,ada.${i}@example.com`
    size += line.length
    lines.push(line)
  }
  return Buffer.from(lines.join('\r\n'))
}

function measure(name: string, payload: Buffer, run: () => unknown): void {
  const rounds = Math.max(20, Math.ceil(30_000_000 / payload.length))
  for (let i = 0; i < rounds / 4; i++) run()
  let best = Infinity
  for (let repeat = 0; repeat < 5; repeat++) {
    const start = process.hrtime.bigint()
    for (let i = 0; i < rounds / 4; i++) run()
    best = Math.min(best, Number(process.hrtime.bigint() - start) / 1000 / Math.ceil(rounds / 4))
  }
  const perKb = best / (payload.length / 1024)
  console.log(
    `${name.padEnd(34)} ${String(payload.length).padStart(8)} B ${best.toFixed(1).padStart(10)} µs ${perKb.toFixed(2).padStart(8)} µs/KB`,
  )
}

for (const kilobytes of [1, 10, 100]) {
  for (const [name, make, mediaType] of [
    ['orders (JSON)', orders, 'application/json'],
    ['people (JSON)', people, 'application/json'],
    ['orders (JSON read as text)', orders, 'text/plain'],
    ['table (CSV)', table, 'text/csv'],
  ] as const) {
    const payload = make(kilobytes * 1024)
    measure(name, payload, () => detectFacts(payload, mediaType, ALL))
  }
  const payload = orders(kilobytes * 1024)
  measure('  for comparison: JSON.parse', payload, () => JSON.parse(payload.toString()))
}

// Bodies made to be slow. Each must stay in the order of magnitude of the others.
const MIB = 1 << 20
const hostile: Readonly<Record<string, string>> = {
  'all @': '@',
  'a@ repeated': 'a@',
  'a@a. repeated': 'a@a.',
  'digits and spaces': '4 ',
  'four digits and hyphens': '4111-',
  'digits only': '4',
  'plus and digits': '+4 ',
  'DE89 repeated': 'DE89 ',
  'DE00A repeated': 'DE00A',
  'labels and colons': 'tel a a:',
  'open tags': '<fname ',
  entities: '&#64;',
  backslashes: '\\u0040',
  'AB repeated': 'AB 1 ',
  'digits of another script': '٤',
  'digits and invisible spaces': '4\u200b',
  'digits and no-break spaces': '4\u00a0',
  'groups with slashes': '4111/',
  'tags in digits': '4<b>',
  'CDATA without an end': '<![CDATA[',
  'names of references': '&ab',
  'percent-encoded addresses': 'a@b.co4%40 ',
}
for (const [name, unit] of Object.entries(hostile)) {
  const payload = Buffer.from(unit.repeat(Math.floor(MIB / unit.length)))
  measure(`hostile: ${name}`, payload, () =>
    detectFacts(payload, name === 'labels and colons' ? 'text/plain' : 'text/html', ALL),
  )
}
for (const [name, text] of [
  ['nested arrays', '['.repeat(MIB)],
  ['empty names', `{${'"":1,'.repeat(MIB / 5)}"":1}`],
  ['escapes', JSON.stringify('\u0001'.repeat(MIB / 6))],
  ['one string of digits', JSON.stringify('4'.repeat(MIB))],
  ['one number', '4'.repeat(MIB)],
] as const) {
  const payload = Buffer.from(text)
  measure(`hostile JSON: ${name}`, payload, () => detectFacts(payload, 'application/json', ALL))
}
