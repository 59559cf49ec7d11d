import { gunzipSync } from 'node:zlib'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { loadBundle } from '#engine/bundle/load.ts'
import { readTar } from '#engine/bundle/tar.ts'
import { parseTrust } from '#engine/bundle/trust.ts'
import { compiled, fakeModule, NONE, NOW, publisherFixture, type PublisherFixture } from './bundles.fixture.ts'
import { indexName } from './revisions.ts'
import { createBundleSource, createTurns, type BundleSource } from './source.ts'

const ROOT = compiled(fakeModule('root', 'root', 100_000))
let fixture: PublisherFixture
let stopping: AbortController
let errors: unknown[]
beforeEach(() => {
  fixture = publisherFixture()
  stopping = new AbortController()
  errors = []
})
afterEach(() => stopping.abort())

function follow(maxBytes = 1 << 20): BundleSource {
  const { objects, store } = fixture
  const source = createBundleSource({ objects, store, maxBytes, onError: (error) => errors.push(error) })
  void source.run(stopping.signal)
  return source
}

describe('a bundle source', () => {
  it('gives bundles that proxies accept, in parts that are shared', async () => {
    await fixture.publisher.publish('shop', { root: ROOT, namespace: compiled(fakeModule('namespace/shop', 'own')) })
    await fixture.publisher.publish('bank', { root: ROOT, namespace: NONE })
    const source = follow()
    const [shop, bank] = [(await source.open('shop'))!, (await source.open('bank'))!]
    for (const [name, served] of [
      ['shop', shop],
      ['bank', bank],
    ] as const) {
      const bytes = Buffer.concat(served.parts)
      expect(bytes.length).toBe(served.length)
      const trust = parseTrust(source.trust!)
      const bundle = await loadBundle(bytes, { trust, scope: `namespace/${name}`, now: NOW })
      expect(bundle.revision).toBe(served.revision)
    }
    expect([...readTar(gunzipSync(Buffer.concat(shop.parts))).keys()]).toEqual([
      'data.json',
      '.manifest',
      '.signatures.json',
      'root/policy.wasm',
      'ns/policy.wasm',
    ])
    expect(shop.parts[1]).toBe(bank.parts[1])
    expect((await source.open('shop'))!.parts[0]).toBe(shop.parts[0])
    expect(await source.open('lab')).toBeNull()
  })

  it('keeps no more in memory than it may, and still serves', async () => {
    for (let n = 0; n < 20; n++) {
      await fixture.publisher.publish(`ns-${n}`, {
        root: ROOT,
        namespace: compiled(fakeModule(`namespace/ns-${n}`, 'own', 20_000)),
      })
    }
    const source = follow(150_000)
    for (let round = 0; round < 2; round++) {
      for (let n = 0; n < 20; n++) expect((await source.open(`ns-${n}`))!.length).toBeGreaterThan(120_000)
    }
  })

  it('tells those who wait of another bundle, of the first and of the end, once', async () => {
    const source = follow()
    const told: string[] = []
    const stops = [source.onNext('shop', null, () => told.push('first'))]
    await fixture.publisher.publish('shop', { root: ROOT, namespace: NONE })
    await fixture.publisher.settled()
    await expect.poll(() => told).toContain('first')
    stops.forEach((stop) => stop())
    const { etag } = source.get('shop')!
    told.length = 0
    const stop = source.onNext('shop', etag, () => told.push('next'))
    fixture.objects.annotate(indexName('shop'), 'note', 'the same bundle')
    await new Promise((resolve) => setTimeout(resolve, 20))
    expect(told).toEqual([])
    const found = fixture.objects.all.get(indexName('shop'))!
    await fixture.objects.remove(found)
    await expect.poll(() => told).toEqual(['next'])
    stop()
    expect(source.waiting).toBe(0)
  })

  it('serves what it knows when an index is broken', async () => {
    await fixture.publisher.publish('shop', { root: ROOT, namespace: NONE })
    await fixture.publisher.settled()
    const source = follow()
    const before = source.get('shop')
    const found = fixture.objects.all.get(indexName('shop'))!
    await fixture.objects.replace(found, { ...found, data: { 'index.json': '{' } })
    await expect.poll(() => errors.length).toBe(1)
    expect(source.get('shop')).toEqual(before)
  })

  it('says that a part is missing', async () => {
    await fixture.publisher.publish('shop', { root: ROOT, namespace: NONE })
    for (const name of fixture.objects.all.keys())
      if (name.startsWith('signet-bundle-blob-')) fixture.objects.all.delete(name)
    await expect(follow().open('shop')).rejects.toMatchObject({ code: 'BUNDLE_UNAVAILABLE' })
  })
})

describe('createTurns', () => {
  it('runs no more at a time than it may, in order, through failures', async () => {
    const turn = createTurns(2)
    let running = 0
    let most = 0
    const order: number[] = []
    const results = await Promise.allSettled(
      Array.from({ length: 9 }, (_, n) =>
        turn(async () => {
          order.push(n)
          most = Math.max(most, ++running)
          await new Promise((resolve) => setTimeout(resolve, 2))
          running -= 1
          if (n === 3) throw new Error('no')
        }),
      ),
    )
    expect([most, order]).toEqual([2, [0, 1, 2, 3, 4, 5, 6, 7, 8]])
    expect(results.filter(({ status }) => status === 'rejected')).toHaveLength(1)
  })
})
