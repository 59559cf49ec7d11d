import { brotliCompressSync, constants, deflateRawSync, gzipSync, zstdCompressSync } from 'node:zlib'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { CODINGS, type Coding } from './coding.ts'
import { decodeContent, decodeSmall } from './decode.ts'
import { Decoder } from './decoder.ts'
import { encodeContent } from './encode.ts'
import type { CodingFault } from './fault.ts'
import { Lanes } from './lanes.ts'

const LIMITS = { freeBytes: 4096, maxRatio: 20 }
const DAMAGED = expect.objectContaining({ reason: 'damaged' }) as Error
const TEXT = Buffer.from('what a service says, again and again. '.repeat(20))

async function encoded(content: Buffer, codings: readonly Coding[]): Promise<Buffer> {
  let coded = content
  for (const coding of codings) coded = await encodeContent(coded, coding, new Lanes(1))
  return coded
}

function faultOf(decoding: Promise<unknown>): Promise<CodingFault> {
  return decoding.then(
    (value) => {
      throw new Error(`decoded: ${JSON.stringify(value).slice(0, 100)}`)
    },
    (error: unknown) => error as CodingFault,
  )
}

/** Content that compresses well, and content that does not. */
const content = fc.oneof(
  fc.uint8Array({ maxLength: 3000 }),
  fc
    .tuple(fc.uint8Array({ maxLength: 40 }), fc.integer({ min: 1, max: 80 }))
    .map(([piece, times]) => Uint8Array.from(Array.from({ length: times }, () => [...piece]).flat())),
)
const codings = fc.array(fc.constantFrom(...CODINGS), { minLength: 1, maxLength: 2 })

describe('what was encoded decodes to itself', () => {
  test('as a whole', async () => {
    await fc.assert(
      fc.asyncProperty(content, codings, async (bytes, applied) => {
        const plain = Buffer.from(bytes)
        const coded = await encoded(plain, applied)
        const decoded = await decodeContent(coded, applied, { freeBytes: 10_000, maxRatio: 20 })
        expect(decoded).toEqual({ kind: 'whole', content: plain })
        if (applied.length === 1) expect(decodeSmall(coded, applied, 10_000)).toEqual(plain)
      }),
      { numRuns: 150 },
    )
  })

  test('in pieces of any size, held up at any time', async () => {
    await fc.assert(
      fc.asyncProperty(content, codings, fc.integer({ min: 1, max: 97 }), async (bytes, applied, step) => {
        const plain = Buffer.from(bytes)
        const coded = await encoded(plain, applied)
        const pieces: Buffer[] = []
        const decoder = new Decoder(applied, { freeBytes: 10_000, maxRatio: 20 }, (piece) => {
          pieces.push(piece)
          decoder.pause()
          setImmediate(() => decoder.resume())
        })
        for (let from = 0; from < coded.length; from += step) await decoder.write(coded.subarray(from, from + step))
        await decoder.end()
        expect(Buffer.concat(pieces).equals(plain)).toBe(true)
      }),
      { numRuns: 60 },
    )
  })

  test('damaged bytes decode, or fail; they do neither hang nor crash', async () => {
    await fc.assert(
      fc.asyncProperty(codings, fc.nat(400), fc.nat(255), async (applied, at, flip) => {
        const coded = Buffer.from(await encoded(TEXT, applied))
        const place = at % coded.length
        coded[place] = (coded[place] as number) ^ flip
        const outcome = await decodeContent(coded, applied, LIMITS).catch((error: unknown) => error as CodingFault)
        if ('kind' in outcome) expect(outcome.kind).toBe('whole')
        else expect(['damaged', 'bomb']).toContain(outcome.reason)
      }),
      { numRuns: 200 },
    )
  })
})

test.each(CODINGS)('%s: cut short, or with something behind its end, is refused', async (coding) => {
  const coded = await encoded(TEXT, [coding])
  for (const cut of [1, 2, coded.length >> 1, coded.length - 1]) {
    expect((await faultOf(decodeContent(coded.subarray(0, cut), [coding], LIMITS))).reason).toBe('damaged')
    expect(() => decodeSmall(coded.subarray(0, cut), [coding], 9_999)).toThrow(DAMAGED)
  }
  for (const behind of [Buffer.alloc(1), Buffer.from('PII'), Buffer.alloc(40_000, 7)]) {
    const body = Buffer.concat([coded, behind])
    expect((await faultOf(decodeContent(body, [coding], LIMITS))).reason).toBe('damaged')
    if (body.length <= 8_192) expect(() => decodeSmall(body, [coding], 9_999)).toThrow(DAMAGED)
    else expect(decodeSmall(body, [coding], 9_999)).toBeNull()
    const decoder = new Decoder([coding], LIMITS, () => undefined)
    const inTwo = async (): Promise<void> => {
      await decoder.write(coded)
      await decoder.write(behind)
      await decoder.end()
    }
    expect((await faultOf(inTwo())).reason).toBe('damaged')
  }
})

test.each([
  { body: gzipSync(TEXT), coding: 'zstd' },
  { body: gzipSync(TEXT), coding: 'br' },
  { body: TEXT, coding: 'gzip' },
  { body: deflateRawSync(TEXT), coding: 'deflate' },
] as const)('one coding under the name of another is refused: $coding', async ({ body, coding }) => {
  expect((await faultOf(decodeContent(body, [coding], LIMITS))).reason).toBe('damaged')
})

test('a zstd window past 8 MiB is refused: it would be memory', async () => {
  const wide = zstdCompressSync(Buffer.alloc(20_000_000), { params: { [constants.ZSTD_c_windowLog]: 26 } })
  const limits = { freeBytes: 30_000_000, maxRatio: 20 }
  expect((await faultOf(decodeContent(wide, ['zstd'], limits))).reason).toBe('damaged')
})

test('a member after the other is one content in gzip, as clients read it', async () => {
  const both = Buffer.concat([gzipSync('a'), gzipSync('b')])
  expect(await decodeContent(both, ['gzip'], LIMITS)).toEqual({ kind: 'whole', content: Buffer.from('ab') })
})

test('no body is no coded content', async () => {
  expect(await decodeContent(Buffer.alloc(0), ['gzip'], LIMITS)).toEqual({ kind: 'whole', content: Buffer.alloc(0) })
})

test('small is what is small on both sides, in one coding', () => {
  expect(decodeSmall(gzipSync(Buffer.alloc(65_536)), ['gzip'], 100_000)?.length).toBe(65_536)
  expect(decodeSmall(gzipSync(Buffer.alloc(65_537)), ['gzip'], 100_000)).toBeNull()
  expect(decodeSmall(gzipSync(Buffer.alloc(1_001)), ['gzip'], 1_000)).toBeNull()
  expect(decodeSmall(gzipSync(randomLooking(9_000)), ['gzip'], 100_000)).toBeNull()
  expect(decodeSmall(gzipSync(gzipSync(TEXT)), ['gzip', 'gzip'], 100_000)).toBeNull()
  expect(decodeSmall(Buffer.alloc(0), ['gzip'], 100_000)).toEqual(Buffer.alloc(0))
})

describe('what grows', () => {
  test.each([
    { name: 'to the limit', length: 4096, want: 'whole' },
    { name: 'past it, within the ratio', length: 4097, want: 'large' },
  ])('$name: $want', async ({ length, want }) => {
    // Half of it does not compress: far from the ratio.
    const plain = Buffer.concat([
      Buffer.alloc(length - 2048),
      Buffer.from(gzipSync(randomLooking(8000)).subarray(0, 2048)),
    ])
    const decoded = await decodeContent(await encoded(plain, ['gzip']), ['gzip'], LIMITS)
    expect(decoded.kind).toBe(want)
    if (decoded.kind === 'large') {
      expect(decoded.length).toBe(length)
      expect(plain.subarray(0, decoded.prefix.length).equals(decoded.prefix)).toBe(true)
    }
  })

  test.each([
    { name: 'gzip', body: gzipSync(Buffer.alloc(1_000_000)), codings: ['gzip'] },
    { name: 'br', body: brotliCompressSync(Buffer.alloc(100_000_000)), codings: ['br'] },
    { name: 'zstd', body: zstdCompressSync(Buffer.alloc(100_000_000)), codings: ['zstd'] },
    { name: 'a bomb in a bomb', body: gzipSync(gzipSync(Buffer.alloc(50_000_000))), codings: ['gzip', 'gzip'] },
    {
      name: 'a layer that grows and shrinks again',
      body: brotliCompressSync(gzipMembers(40_000)),
      codings: ['gzip', 'br'],
    },
  ] as const)('past the ratio is a bomb: $name', async ({ body, codings: applied }) => {
    const fault = await faultOf(decodeContent(body, applied, LIMITS))
    expect(fault.reason).toBe('bomb')
    expect(fault.code).toBe('DECOMPRESSION_LIMIT')
  })
})

test('who waits for a decoder that is closed is told', async () => {
  const decoder = new Decoder(['gzip'], LIMITS, () => decoder.pause())
  const waiting = decoder.write(gzipSync(randomLooking(200_000))).then(() => decoder.end())
  decoder.destroy()
  expect((await faultOf(waiting)).reason).toBe('damaged')
  expect((await faultOf(decoder.write(TEXT))).reason).toBe('damaged')
})

test('so many run at a time, in order, and a failure frees its lane', async () => {
  const lanes = new Lanes(2)
  let running = 0
  const most: number[] = []
  const started: number[] = []
  const run = (id: number): Promise<number> =>
    lanes.run(async () => {
      started.push(id)
      most.push((running += 1))
      await new Promise((resolve) => setImmediate(resolve))
      running -= 1
      if (id % 3 === 0) throw new Error(`no ${id}`)
      return id
    })
  const results = await Promise.allSettled(Array.from({ length: 20 }, (_, id) => run(id)))
  expect(Math.max(...most)).toBe(2)
  expect(started).toEqual(Array.from({ length: 20 }, (_, id) => id))
  expect(results.filter(({ status }) => status === 'rejected')).toHaveLength(7)
  expect(await lanes.run(() => Promise.resolve('free'))).toBe('free')
})

/** Not compressible, the same each time. */
function randomLooking(length: number): Buffer {
  const bytes = Buffer.alloc(length)
  let state = 1
  for (let i = 0; i < length; i++) {
    state = (Math.imul(state, 1_103_515_245) + 12_345) & 0x7fffffff
    bytes[i] = state >> 16
  }
  return bytes
}

/** Many bytes that hold nothing. */
function gzipMembers(count: number): Buffer {
  return Buffer.concat(Array.from({ length: count }, () => gzipSync('')))
}
