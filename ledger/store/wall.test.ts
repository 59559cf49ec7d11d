import { expect, test } from 'vitest'
import { projectRecord } from '#core/audit/record.ts'
import type { Client } from '#runtime/postgres/transaction.ts'
import type { ChainRow } from '../chain.ts'
import { insertRows } from './wall.ts'

const row = (seq: number, changes: Partial<ChainRow> = {}): ChainRow => ({
  seq,
  commitment: Buffer.alloc(32, 1),
  hash: Buffer.alloc(32, 2),
  previousHash: Buffer.alloc(32, 3),
  previousTraceHash: Buffer.alloc(32, 4),
  keyId: 'chain-1',
  traceHmac: Buffer.alloc(32, 5),
  receivedHmac: Buffer.alloc(32, 6),
  retentionClass: 'default',
  nonce: Buffer.alloc(32, 7),
  bytes: Buffer.from('{}'),
  projection: {} as ReturnType<typeof projectRecord>,
  stamp: undefined,
  ...changes,
})

function recorder() {
  const sent: { name: string; text: string; values: unknown[] }[] = []
  const client = {
    query: (query: (typeof sent)[number]) => {
      sent.push(query)
      return Promise.resolve({ rows: [] })
    },
  }
  return { sent, client: client as unknown as Client }
}

test('bytes go end to end, with where each begins and how long it is; each statement has its parameters', async () => {
  const { sent, client } = recorder()
  const stamp = (text: string) => ({ hash: text, bytes: Buffer.from(text) })
  const rows = [
    row(1, { bytes: Buffer.from('{"a":1}'), stamp: stamp('{}') }),
    row(2, { bytes: Buffer.alloc(0) }),
    row(3, { stamp: stamp('{"ü":1}') }),
  ]
  await insertRows(client, 'acme', rows)
  expect(sent.map(({ name }) => name)).toEqual(['insert-chain', 'insert-stamps'])
  for (const { text, values } of sent) {
    const numbers = [...text.matchAll(/\$(\d+)/g)].map(([, number]) => Number(number))
    expect(Math.max(...numbers)).toBe(values.length)
    expect(new Set(numbers).size).toBe(values.length)
  }
  const [chain, stamps] = sent.map(({ values }) => values)
  expect(chain).toContainEqual(Buffer.alloc(96, 1))
  expect(chain?.slice(17, 20)).toEqual([Buffer.from('{"a":1}{}'), [1, 8, 8], [7, 0, 2]])
  expect(stamps?.slice(-3)).toEqual([Buffer.from('{}{"ü":1}'), [1, 3], [2, 8]])
})

test.each(['commitment', 'hash', 'previousHash', 'previousTraceHash', 'traceHmac', 'receivedHmac', 'nonce'] as const)(
  'a %s of another length is not written: it would move all that follow',
  async (name) => {
    const { sent, client } = recorder()
    const rows = [row(1, { [name]: Buffer.alloc(31) }), row(2, { [name]: Buffer.alloc(33) })]
    await expect(insertRows(client, 'acme', rows)).rejects.toMatchObject({ code: 'INTERNAL' })
    expect(sent.map((query) => query.name)).not.toContain('insert-chain')
  },
)
