import { beforeEach, describe, expect, it } from 'vitest'
import { parseTrust } from '#engine/bundle/trust.ts'
import { openFiles } from '#engine/bundle/load.ts'
import { manualClock } from '#operator/clock.fixture.ts'
import { createBlobs } from './blobs.ts'
import { compiled, fakeModule, NONE, publisherFixture, type PublisherFixture } from './bundles.fixture.ts'
import { objectLabels } from './objects.ts'
import { indexName, readIndex, ROLLBACK_TO } from './revisions.ts'
import { TRUST_OBJECT, trustText } from './signer.ts'
import { upkeepRound } from './upkeep.ts'

const ROOT = compiled(fakeModule('root', 'root'))
const HOUR_MS = 3_600_000
const DAY_MS = 24 * HOUR_MS

let fixture: PublisherFixture
let errors: unknown[]
let untrusted: string[]
beforeEach(() => {
  fixture = publisherFixture()
  errors = []
  untrusted = []
})

/** One round of the leader's upkeep at this time. */
async function round(ms = 0): Promise<void> {
  fixture.clock = new Date(fixture.clock.getTime() + ms)
  const { objects, publisher, signer } = fixture
  await upkeepRound(
    {
      objects,
      blobs: createBlobs(objects, { now: () => fixture.clock, graceMs: HOUR_MS }),
      publisher,
      signer,
      clock: manualClock(fixture.clock.getTime()),
      onError: (error) => errors.push(error),
      onUntrusted: (namespace) => untrusted.push(namespace),
    },
    true,
    new AbortController().signal,
  )
  await publisher.settled()
}

const publish = (namespace: string, text: string) =>
  fixture.publisher.publish(namespace, { root: ROOT, namespace: compiled(fakeModule(`namespace/${namespace}`, text)) })
const kids = async (): Promise<string[]> =>
  parseTrust(trustText((await fixture.objects.read(TRUST_OBJECT))!.data)!).keys.map(({ kid }) => kid)
const inForce = async (namespace: string) => (await readIndex(fixture.objects, namespace))!.index.revisions[0]!

describe('upkeep', () => {
  it('rotates the signing key without a moment in which a bundle in force is not believed', async () => {
    for (const namespace of ['shop', 'bank', 'lab']) await publish(namespace, 'own')
    const [first] = await kids()
    const revisions = new Set<string>()
    for (let hours = 0; hours < 95 * 24; hours += 12) {
      await round(12 * HOUR_MS)
      const trust = parseTrust(trustText((await fixture.objects.read(TRUST_OBJECT))!.data)!)
      for (const namespace of ['shop', 'bank', 'lab']) {
        const revision = await inForce(namespace)
        revisions.add(revision.revision)
        await openFiles(await fixture.store.files(`namespace/${namespace}`, revision), trust)
        expect(Date.parse(revision.expires_at)).toBeGreaterThan(fixture.clock.getTime() + 6 * HOUR_MS)
      }
    }
    // All by the new key, the old one gone; and for people nothing happened.
    const [second, ...rest] = await kids()
    expect([rest, second === first, revisions.size]).toEqual([[], false, 3])
    expect((await inForce('shop')).key_id).toBe(second)
    expect(errors).toEqual([])
  }, 120_000)

  it('does a rollback that somebody asked for, and delivers what the ledger could not take', async () => {
    const { revision } = await publish('shop', 'own 1')
    fixture.ledgerIsUp = false
    await publish('shop', 'own 2')
    fixture.objects.annotate(indexName('shop'), ROLLBACK_TO, revision!)
    await round()
    expect(await inForce('shop')).toMatchObject({ reason: 'rollback', audited: false })
    fixture.ledgerIsUp = true
    await round()
    expect(await inForce('shop')).toMatchObject({ reason: 'rollback', audited: true })
    expect(fixture.events.at(-1)).toMatchObject({ event_type: 'policy.bundle.rolled-back' })
  })

  it('removes blobs and status objects that nobody needs, and nothing while an index cannot be read', async () => {
    await publish('bank', 'kept')
    for (let n = 0; n < 12; n++) await publish('shop', `own ${n}`)
    const blobs = (): number => [...fixture.objects.all.keys()].filter((name) => name.includes('-blob-')).length
    const before = blobs()
    const good = fixture.objects.all.get(indexName('bank'))!
    fixture.objects.all.set(good.name, { ...good, data: {} })
    await round(2 * HOUR_MS)
    expect([blobs(), errors.length]).toEqual([before, 1])
    fixture.objects.all.set(good.name, good)
    await fixture.objects.create({
      name: 'signet-bundle-status-gone',
      labels: objectLabels('status'),
      annotations: { 'signet.dev/written-at': new Date(fixture.clock.getTime() - DAY_MS).toISOString() },
      data: {},
      binaryData: {},
    })
    await round()
    // Of twelve revisions of the shop ten are kept.
    expect(blobs()).toBe(before - 2)
    expect(fixture.objects.all.has('signet-bundle-status-gone')).toBe(false)
    expect(await fixture.store.files('namespace/bank', await inForce('bank'))).toBeDefined()
  })

  it('has namespaces published anew whose signature is not believed any more, one by one', async () => {
    await publish('shop', 'own')
    await fixture.publisher.publish('bank', { root: ROOT, namespace: NONE })
    await fixture.publisher.settled()
    fixture.secret.text = null
    // The first round finds the Secret gone and makes a key; the second finds what the new key does not vouch for.
    await round()
    await round()
    expect(untrusted.sort()).toEqual(['bank', 'shop'])
    expect(await publish('shop', 'own')).toMatchObject({ outcome: 'signed-again' })
    untrusted.length = 0
    await round()
    expect(untrusted).toEqual(['bank'])
  })
})
