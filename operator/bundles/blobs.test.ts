import { randomBytes } from 'node:crypto'
import { beforeEach, describe, expect, it } from 'vitest'
import { createBlobs, type Blobs } from './blobs.ts'
import { NOW } from './bundles.fixture.ts'
import { cachedBlobs } from './cached-blobs.ts'
import { memoryObjects, type MemoryObjects } from './memory-objects.fixture.ts'

const GRACE_MS = 3_600_000
let clock: Date
let objects: MemoryObjects
let blobs: Blobs
beforeEach(() => {
  clock = NOW
  objects = memoryObjects(() => clock)
  blobs = createBlobs(objects, { now: () => clock, graceMs: GRACE_MS })
})
const later = (ms: number): void => void (clock = new Date(clock.getTime() + ms))
const chunks = (sha256: string): string[] => [...objects.all.keys()].filter((name) => name.includes(sha256)).sort()

describe('blobs', () => {
  it.each([
    { bytes: 0, wantChunks: 1 },
    { bytes: 1_000, wantChunks: 1 },
    { bytes: 2_000_000, wantChunks: 3 },
  ])('keeps $bytes bytes in $wantChunks parts', async ({ bytes, wantChunks }) => {
    const content = randomBytes(bytes)
    const { sha256 } = await blobs.put(content)
    expect(chunks(sha256)).toHaveLength(wantChunks)
    expect((await blobs.get(sha256)).equals(content)).toBe(true)
  })

  it('says what is missing, and gives no other bytes than those that were stored', async () => {
    const { sha256 } = await blobs.put(Buffer.from('right'))
    const { sha256: other } = await blobs.put(Buffer.from('wrong'))
    const [name] = chunks(sha256)
    const found = objects.all.get(name!)!
    objects.all.set(name!, { ...found, binaryData: objects.all.get(chunks(other)[0]!)!.binaryData })
    await expect(blobs.get(sha256)).rejects.toMatchObject({ code: 'BUNDLE_INVALID' })
    objects.all.set(name!, { ...found, binaryData: { content: Buffer.from('no gzip') } })
    await expect(blobs.get(sha256)).rejects.toMatchObject({ code: 'BUNDLE_INVALID' })
    objects.all.delete(name!)
    await expect(blobs.get(sha256)).rejects.toMatchObject({
      code: 'BUNDLE_UNAVAILABLE',
      message: expect.stringContaining(name!) as string,
    })
  })

  it('puts right what somebody put in the place of a blob', async () => {
    const content = Buffer.from('right')
    const { sha256 } = await blobs.put(content)
    const [name] = chunks(sha256)
    objects.all.set(name!, { ...objects.all.get(name!)!, binaryData: { content: Buffer.from('no gzip') } })
    later(GRACE_MS)
    await blobs.put(content)
    expect((await blobs.get(sha256)).equals(content)).toBe(true)
  })

  it('finds what was deleted, replaced or is not labelled any more, and stores it again', async () => {
    const content = randomBytes(2_000_000)
    const { sha256 } = await blobs.put(content)
    const { sha256: whole } = await blobs.put(Buffer.from('whole'))
    const [first, second] = chunks(sha256)
    const harm: (() => void)[] = [
      () => objects.all.delete(first!),
      () => objects.all.delete(second!),
      () => objects.all.set(second!, { ...objects.all.get(second!)!, uid: 'another', binaryData: {} }),
      () => objects.all.set(first!, { ...objects.all.get(first!)!, labels: {} }),
      () => objects.all.set(first!, { ...objects.all.get(first!)!, annotations: { 'signet.dev/blob-chunks': '1e9' } }),
    ]
    for (const does of harm) {
      does()
      expect(await blobs.damaged([sha256, whole])).toEqual(new Set([sha256]))
      await blobs.put(content)
      expect(await blobs.damaged([sha256, whole])).toEqual(new Set())
      expect((await blobs.get(sha256)).equals(content)).toBe(true)
    }
  })

  it('does not ask again for what it has just seen', async () => {
    await blobs.put(Buffer.from('root'))
    const writes = objects.writes.length
    await blobs.put(Buffer.from('root'))
    expect(objects.writes.length).toBe(writes)
  })

  it('removes what nothing uses, but not what somebody is about to use', async () => {
    const [used, unused, again] = await Promise.all(
      ['used', 'unused', 'again'].map(async (text) => (await blobs.put(Buffer.from(text))).sha256),
    )
    expect(await blobs.collect(new Set([used!]))).toBe(0)
    later(GRACE_MS)
    // A leader that is going to publish counts on it.
    await createBlobs(objects, { now: () => clock, graceMs: GRACE_MS }).put(Buffer.from('again'))
    expect(await blobs.collect(new Set([used!]))).toBe(1)
    expect([used, unused, again].map((sha256) => chunks(sha256!).length)).toEqual([1, 0, 1])
  })

  it('loses no blob to a collection that looked before it was used', async () => {
    const { sha256 } = await blobs.put(Buffer.from('again'))
    later(GRACE_MS)
    objects.beforeWrite = async (operation) => {
      if (operation !== 'remove') return
      objects.beforeWrite = () => {}
      await createBlobs(objects, { now: () => clock, graceMs: GRACE_MS }).put(Buffer.from('again'))
    }
    expect(await blobs.collect(new Set())).toBe(0)
    expect((await blobs.get(sha256)).toString()).toBe('again')
  })
})

describe('cachedBlobs', () => {
  it('reads once what is asked for at the same time, and holds no more than it may', async () => {
    const names = await Promise.all([1, 2, 3].map(async (n) => (await blobs.put(Buffer.alloc(1_000, n))).sha256))
    let reads = 0
    const counted = { ...blobs, get: (sha256: string) => ((reads += 1), blobs.get(sha256)) }
    const cached = cachedBlobs(counted, 2_500)
    await Promise.all([cached.get(names[0]!), cached.get(names[0]!)])
    await cached.get(names[0]!)
    expect(reads).toBe(1)
    for (const name of names) await cached.get(name)
    await cached.get(names[0]!)
    expect(reads).toBe(4)
  })
})
