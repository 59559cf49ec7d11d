import { generateKeyPairSync } from 'node:crypto'
import { describe, expect, test } from 'vitest'
import { canonicalize } from '#core/canonical/jcs.ts'
import { signRestore } from '#core/archive/restore.ts'
import { signCheckpoint } from '#core/tree/checkpoint.ts'
import { checkpointKey } from './checkpoint-search.ts'
import { ArchivedCheckpoints } from './checkpoints.ts'
import type { ListedVersion, ObjectStore } from './object-store.ts'

/** More checkpoints than anybody reads: a list in memory stands for the bucket; a real one is in test/ledger/archive-checkpoints.test.ts. */
const log = generateKeyPairSync('ed25519')
const other = generateKeyPairSync('ed25519')
const ORIGIN = 'ledger.example.com'
const rootOf = (size: number, history = 0): Buffer => {
  const root = Buffer.alloc(32, history)
  root.writeBigUInt64BE(BigInt(size))
  return root
}
const note = (size: number, { history = 0, key = log.privateKey, origin = ORIGIN } = {}): string =>
  signCheckpoint({ origin, size, root: rootOf(size, history), extensions: [] }, key)

type Bucket = { readonly store: ObjectStore; readonly calls: { list: number; get: number }; now: number }

/** `texts`: what is under keys, all versions of each, the oldest first. `sizes`: signed checkpoints of the first history, made when read. */
function bucket(sizes: readonly number[], texts: Readonly<Record<string, readonly string[]>> = {}): Bucket {
  const plain = sizes.map((size) => checkpointKey(0, size))
  const keys = [...new Set([...plain, ...Object.keys(texts)])].toSorted()
  const signed = new Set(plain)
  const versionsOf = (key: string): string[] => [
    ...(signed.has(key) ? ['0'] : []),
    ...(texts[key] ?? []).map((_, index) => String(index + 1)),
  ]
  const calls = { list: 0, get: 0 }
  const from = (after: string): number => {
    let [low, high] = [0, keys.length]
    while (low < high) {
      const middle = (low + high) >> 1
      if (keys[middle]! > after) high = middle
      else low = middle + 1
    }
    return low
  }
  const store = {
    async listAfter(prefix: string, after: string, limit: number) {
      calls.list += 1
      const found: ListedVersion[] = []
      for (let at = from(after === '' ? prefix : after); keys[at]?.startsWith(prefix) === true; at++) {
        for (const versionId of versionsOf(keys[at]!)) {
          if (found.length === limit) return { found, more: true }
          found.push({ key: keys[at]!, versionId })
        }
      }
      return { found, more: false }
    },
    async versions(key: string) {
      calls.list += 1
      return versionsOf(key)
    },
    async get(key: string, { versionId = '0' }: { versionId?: string }) {
      calls.get += 1
      return Buffer.from(versionId === '0' ? note(Number(key.slice(-16))) : (texts[key]?.[Number(versionId) - 1] ?? ''))
    },
  } as unknown as ObjectStore
  return { store, calls, now: 0 }
}
const reading = (of: Bucket): ArchivedCheckpoints =>
  new ArchivedCheckpoints({
    store: of.store,
    publicKeys: () => [log.publicKey],
    origin: ORIGIN,
    clock: () => new Date(of.now),
  })
const millionth = (index: number): number => index * 37 + 1

describe('archived checkpoints', () => {
  test('of a small archive are read whole, each once', async () => {
    const of = bucket([5, 9, 700])
    const archived = reading(of)
    const found = await archived.read()
    expect(found.heads.map(({ size }) => size)).toEqual([5, 9, 700])
    expect(found).toMatchObject({ newest: { size: 700 }, restores: [], unsigned: 0 })
    await archived.read()
    expect(of.calls.get).toBe(3)
  })

  test('of a million, the newest and some of all times, in bounded requests; again later, hardly any', async () => {
    const of = bucket(Array.from({ length: 1_000_000 }, (_, index) => millionth(index)))
    const archived = reading(of)
    const { heads, newest } = await archived.read()
    const last = millionth(999_999)
    expect(newest?.size).toBe(last)
    expect(heads.length).toBeGreaterThan(200)
    expect(heads.length).toBeLessThan(300)
    // No stretch of more than a hundredth is without one.
    const gaps = heads.map(({ size }, index) => size - (heads[index - 1]?.size ?? 0))
    expect(Math.max(...gaps)).toBeLessThan(last / 100)
    expect(of.calls.get).toBeLessThan(300)
    expect(of.calls.list).toBeLessThan(700)
    const before = { ...of.calls }
    of.now += 60_000
    await archived.read()
    expect(of.calls.get - before.get).toBe(0)
    expect(of.calls.list - before.list).toBeLessThan(10)
    of.now += 3_600_000
    await archived.read()
    expect(of.calls.list - before.list).toBeGreaterThan(256)
  })

  test.each([
    {
      what: 'a newer version',
      texts: { [checkpointKey(0, 37_001)]: ['junk', note(37_001, { key: other.privateKey })] },
    },
    {
      what: 'a key above all',
      texts: { [checkpointKey(0, 9_999_999_999_999)]: ['junk'], 'checkpoints/zzz': ['junk'] },
    },
    { what: 'a signed one under the key of another size', texts: { [checkpointKey(0, 50_000)]: [note(5)] } },
    { what: 'one of another log', texts: { [checkpointKey(0, 50_000)]: [note(50_000, { origin: 'elsewhere' })] } },
    {
      what: 'many keys that are no sizes',
      texts: Object.fromEntries(Array.from({ length: 2_000 }, (_, index) => [`checkpoints/00junk${index}`, ['x']])),
    },
  ])('$what hides nothing', async ({ texts }) => {
    const of = bucket(
      Array.from({ length: 1_001 }, (_, index) => millionth(index)),
      texts,
    )
    expect((await reading(of).read()).newest?.size).toBe(37_001)
    expect((await reading(of).end()).newest?.size).toBe(37_001)
  })

  test('both that were signed of one size are given', async () => {
    const of = bucket([5, 9], { [checkpointKey(0, 9)]: [note(9, { history: 7 })] })
    const roots = (await reading(of).read()).heads.filter(({ size }) => size === 9).map(({ root }) => root)
    expect(roots).toEqual([rootOf(9), rootOf(9, 7)])
  })

  test('behind more junk than anybody looks behind there is no saying: it is an error, not an absence', async () => {
    const junk = Array.from({ length: 60 }, (_, index) => [checkpointKey(0, 900_000 + index), ['junk']])
    const of = bucket(
      Array.from({ length: 1_001 }, (_, index) => millionth(index)),
      Object.fromEntries(junk),
    )
    await expect(reading(of).read()).rejects.toMatchObject({ code: 'ARCHIVE_INVALID' })
    const many = Array.from({ length: 6_000 }, (_, index) => [`checkpoints/zz${String(index).padStart(6, '0')}`, ['x']])
    const flooded = bucket(
      Array.from({ length: 1_001 }, (_, index) => millionth(index)),
      Object.fromEntries(many),
    )
    await expect(reading(flooded).read()).rejects.toMatchObject({ code: 'ARCHIVE_UNAVAILABLE' })
  })
})

describe('a restore', () => {
  const statement = (number: number, continues: number, givesUp: number, key = log.privateKey): string =>
    canonicalize(
      signRestore(
        {
          version: 1,
          number,
          origin: ORIGIN,
          at: '2026-01-01T00:00:00.000Z',
          continues: { size: continues, root: rootOf(continues).toString('hex') },
          gives_up: { size: givesUp, root: rootOf(givesUp).toString('hex') },
          reason: 'case 1',
          by: 'admin',
          key_id: 'ack-1',
        },
        key,
      ),
    )
  test.each([
    {
      what: 'one',
      texts: { 'restores/000001': [statement(1, 9, 30)], [checkpointKey(1, 20)]: [note(20)] },
      wantHeads: [5, 9, 9, 20],
      wantNewest: 20,
    },
    {
      what: 'one with nothing after it',
      texts: { 'restores/000001': [statement(1, 9, 30)] },
      wantHeads: [5, 9, 9],
      wantNewest: 9,
    },
    {
      what: 'two, the second further back',
      texts: {
        'restores/000001': [statement(1, 9, 30)],
        [checkpointKey(1, 20)]: [note(20)],
        'restores/000002': [statement(2, 5, 20)],
        [checkpointKey(2, 8)]: [note(8)],
      },
      wantHeads: [5, 5, 8],
      wantNewest: 8,
    },
    {
      what: 'one that somebody else signed',
      texts: { 'restores/000001': [statement(1, 5, 30, other.privateKey)] },
      wantHeads: [5, 9, 30],
      wantNewest: 30,
    },
    {
      what: 'one under another number',
      texts: { 'restores/000007': [statement(1, 5, 30)] },
      wantHeads: [5, 9, 30],
      wantNewest: 30,
    },
  ])('$what: what it gave up is not asked for, all else is', async ({ texts, wantHeads, wantNewest }) => {
    const of = bucket([5, 9, 30], texts)
    const found = await reading(of).read()
    expect(found.heads.map(({ size }) => size)).toEqual(wantHeads)
    expect(found.newest?.size).toBe(wantNewest)
    expect((await reading(of).end()).newest?.size).toBe(wantNewest)
  })
  test.each([
    { what: 'that is missing', texts: { 'restores/000002': [statement(2, 9, 30)] } },
    { what: 'that is stated twice', texts: { 'restores/000001': [statement(1, 9, 30), statement(1, 5, 30)] } },
  ])('one $what is an error', async ({ texts }) => {
    await expect(reading(bucket([5, 9, 30], texts)).read()).rejects.toMatchObject({ code: 'ARCHIVE_INVALID' })
  })
})
