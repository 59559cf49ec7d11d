/** Sizes that are compared, by the first segment of their path. */
export const SIZES = [
  { name: '1k', label: '1 KB', bytes: 1_024 },
  { name: '10k', label: '10 KB', bytes: 10_240 },
  { name: '100k', label: '100 KB', bytes: 102_400 },
] as const
export type Size = (typeof SIZES)[number]

const FIRST = ['Ada', 'Grace', 'Edsger', 'Barbara', 'Donald', 'Frances', 'Niklaus', 'Radia']
const LAST = ['Lovelace', 'Hopper', 'Dijkstra', 'Liskov', 'Knuth', 'Allen', 'Wirth', 'Perlman']
const CITIES = ['Zürich', 'Lyon', 'Porto', 'Gdańsk', 'Utrecht', 'Graz', 'Malmö', 'Bilbao']

/**
 * Customer records of exactly `bytes` bytes of JSON: names, e-mail addresses, phone numbers and IBANs among ids, amounts and text,
 * so that every detector has something to look at, and to find. The same bytes on every machine.
 */
export function customerJson(bytes: number): Buffer {
  const items: string[] = []
  const head = '{"items":['
  const tail = '],"note":""}'
  let length = head.length + tail.length
  for (let id = 1; ; id++) {
    const item = JSON.stringify(customer(id))
    const added = Buffer.byteLength(item) + (id === 1 ? 0 : 1)
    if (length + added > bytes) break
    items.push(item)
    length += added
  }
  return Buffer.from(`${head}${items.join(',')}],"note":"${'-'.repeat(bytes - length)}"}`)
}

function customer(id: number): unknown {
  const first = FIRST[id % 8] as string
  const last = LAST[(id >> 3) % 8] as string
  return {
    id: 100_000 + id,
    name: `${first} ${last}`,
    email: `${first}.${last}.${id}@example.com`.toLowerCase(),
    phone: `+41 44 ${String(200 + (id % 700))} ${String(10 + (id % 80))} ${String(10 + ((id * 7) % 80))}`,
    iban: iban(id),
    city: CITIES[(id * 3) % 8],
    balance: ((id * 7_919) % 1_000_000) / 100,
    active: id % 3 !== 0,
    orders: [
      { number: `A-${2_000 + id}`, total: ((id * 1_237) % 50_000) / 100, placed: `2026-0${1 + (id % 9)}-1${id % 10}` },
    ],
  }
}

/** A German IBAN with its ISO 7064 checksum. */
function iban(id: number): string {
  const account = `37040044${String(532_013_000 + id).padStart(10, '0')}`
  const check = 98n - (BigInt(`${account}131400`) % 97n)
  return `DE${String(check).padStart(2, '0')}${account}`
}
