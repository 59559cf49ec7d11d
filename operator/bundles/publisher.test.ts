import { beforeEach, describe, expect, it } from 'vitest'
import { checkAuditEvent } from '#core/audit/validate.ts'
import { openFiles } from '#engine/bundle/load.ts'
import { parseTrust } from '#engine/bundle/trust.ts'
import {
  compiled,
  failed,
  fakeModule,
  LIFETIME_MS,
  NONE,
  NOW,
  publisherFixture,
  type PublisherFixture,
} from './bundles.fixture.ts'
import type { BundleParts } from './publisher.ts'
import { indexName, readIndex, ROLLBACK_TO, writeIndex } from './revisions.ts'
import { TRUST_OBJECT, trustText } from './signer.ts'

const HOUR_MS = 3_600_000
const ROOT = compiled(fakeModule('root', 'root 1'))
const ROOT_2 = compiled(fakeModule('root', 'root 2'))
const OWN = compiled(fakeModule('namespace/shop', 'own 1'))
const OWN_2 = compiled(fakeModule('namespace/shop', 'own 2'))

let fixture: PublisherFixture
beforeEach(() => {
  fixture = publisherFixture()
})

const publish = (root: BundleParts['root'], namespace: BundleParts['namespace']) =>
  fixture.publisher.publish('shop', { root, namespace })

async function index() {
  return (await readIndex(fixture.objects, 'shop'))!.index
}

/** Titles of the rules in force, after checking the signature as a proxy would. */
async function inForce(): Promise<string[]> {
  const revision = (await index()).revisions[0]!
  const trust = parseTrust(trustText((await fixture.objects.read(TRUST_OBJECT))!.data)!)
  const { content, keyId } = await openFiles(await fixture.store.files('namespace/shop', revision), trust)
  expect(keyId).toBe(revision.key_id)
  expect(content.metadata).toMatchObject({ scope: 'namespace/shop', sequence: revision.sequence })
  return content.modules.map(({ module }) => module.rules[0]!.title)
}

describe('a namespace’s own module cannot keep the root’s out', () => {
  const HUGE = compiled(fakeModule('namespace/shop', 'huge', 6 << 20))

  it('too large at first: the bundle is the root’s alone', async () => {
    const { problems } = await publish(ROOT, HUGE)
    expect(problems).toMatchObject([{ part: 'namespace', error: { code: 'BUNDLE_INVALID' } }])
    expect(await inForce()).toEqual(['root 1'])
  })

  it('too large later: the former own stays, the new root gets in', async () => {
    await publish(ROOT, OWN)
    const { outcome, problems } = await publish(ROOT_2, HUGE)
    expect(outcome).toBe('published')
    expect(problems).toMatchObject([{ part: 'namespace' }])
    expect(await inForce()).toEqual(['root 2', 'own 1'])
  })

  it('as large as may be, beside a root of 8 MiB that does not compress: it fits', async () => {
    const own = compiled(fakeModule('namespace/shop', 'large', (6 << 20) - 100))
    const root = compiled(fakeModule('root', 'root 1', (8 << 20) - 200_000))
    expect(await publish(root, own)).toMatchObject({ outcome: 'published', problems: [] })
  })
})

describe('publish', () => {
  it('publishes a signed bundle of both modules, and audits it', async () => {
    const publication = await publish(ROOT, OWN)
    const sequence = NOW.getTime() / 1000
    expect(publication).toMatchObject({ outcome: 'published', sequence, problems: [] })
    expect(publication.revision).toMatch(new RegExp(`^${sequence}-[0-9a-f]{16}$`))
    expect(await inForce()).toEqual(['root 1', 'own 1'])
    await fixture.publisher.settled()
    expect(fixture.events.map((event) => checkAuditEvent(event))).toMatchObject([
      { event_type: 'policy.bundle.published', resource_id: `namespace/shop@${publication.revision}`, before: null },
    ])
    expect(await index()).toMatchObject({ outbox: [], revisions: [{ audited: true }] })
  })

  it('publishes nothing when nothing changed', async () => {
    const first = await publish(ROOT, OWN)
    await fixture.publisher.settled()
    const writes = fixture.objects.writes.length
    expect(await publish(ROOT, OWN)).toEqual({ ...first, outcome: 'unchanged' })
    expect(fixture.objects.writes.length).toBe(writes)
  })

  it('counts up with each change, also back to what was before, and without own rules', async () => {
    const first = await publish(ROOT, OWN)
    const second = await publish(ROOT, NONE)
    const third = await publish(ROOT, OWN)
    expect([first, second, third].map(({ sequence }) => sequence! - first.sequence!)).toEqual([0, 1, 2])
    expect(third.revision!.split('-')[1]).toBe(first.revision!.split('-')[1])
    expect((await index()).revisions.map(({ revision }) => revision)).toEqual(
      [third, second, first].map(({ revision }) => revision),
    )
  })

  const isolation: {
    name: string
    root: BundleParts['root']
    own: BundleParts['namespace']
    refuse?: string[]
    wantOutcome: string
    want: string[]
    wantParts: string[]
  }[] = [
    {
      name: 'root fails',
      root: failed('x'),
      own: OWN_2,
      wantOutcome: 'published',
      want: ['root 1', 'own 2'],
      wantParts: ['root'],
    },
    {
      name: 'own fails',
      root: ROOT_2,
      own: failed('x'),
      wantOutcome: 'published',
      want: ['root 2', 'own 1'],
      wantParts: ['namespace'],
    },
    {
      name: 'both fail',
      root: failed('x'),
      own: failed('y'),
      wantOutcome: 'unchanged',
      want: ['root 1', 'own 1'],
      wantParts: ['root', 'namespace'],
    },
    {
      name: 'the gate refuses root',
      root: ROOT_2,
      own: OWN_2,
      refuse: ['root 2'],
      wantOutcome: 'published',
      want: ['root 1', 'own 2'],
      wantParts: ['root'],
    },
    {
      name: 'the gate refuses own',
      root: ROOT_2,
      own: OWN_2,
      refuse: ['own 2'],
      wantOutcome: 'published',
      want: ['root 2', 'own 1'],
      wantParts: ['namespace'],
    },
    {
      name: 'the gate refuses both',
      root: ROOT_2,
      own: OWN_2,
      refuse: ['root 2', 'own 2'],
      wantOutcome: 'unchanged',
      want: ['root 1', 'own 1'],
      wantParts: ['root', 'namespace'],
    },
  ]
  it.each(isolation)(
    'keeps only the former part when $name',
    async ({ root, own, refuse = [], wantOutcome, want, wantParts }) => {
      await publish(ROOT, OWN)
      for (const title of refuse) fixture.refuse.add(title)
      const { outcome, problems } = await publish(root, own)
      expect({ outcome, parts: problems.map(({ part }) => part) }).toEqual({ outcome: wantOutcome, parts: wantParts })
      expect(await inForce()).toEqual(want)
    },
  )

  it('publishes the root module of a namespace whose own first rules fail, and nothing without a root', async () => {
    expect(await publish(failed('x'), OWN)).toMatchObject({ outcome: 'refused', revision: null })
    expect(await publish(ROOT, failed('x'))).toMatchObject({ outcome: 'published' })
    expect(await inForce()).toEqual(['root 1'])
  })

  it('stores the root module once for many namespaces, in parts that fit', async () => {
    const big = compiled(fakeModule('root', 'root big', 2_000_000))
    for (const namespace of ['shop', 'bank', 'lab'])
      await fixture.publisher.publish(namespace, { root: big, namespace: NONE })
    const blobs = [...fixture.objects.all.keys()].filter((name) => name.startsWith('signet-bundle-blob-'))
    expect(blobs.filter((name) => name.endsWith('-2'))).toHaveLength(1)
    expect(await inForce()).toEqual(['root big'])
  })

  it.each([
    {
      name: 'unpacked',
      wantPart: 'root',
      module: () => ({ ...fakeModule('root', 'huge'), wasm: Buffer.alloc(60 << 20) }),
    },
    { name: 'packed', wantPart: 'bundle', module: () => fakeModule('root', 'huge', 15 << 20) },
  ])('refuses what proxies would not take, $name', async ({ module, wantPart }) => {
    expect(await publish(compiled(module()), NONE)).toMatchObject({
      outcome: 'refused',
      problems: [{ part: wantPart, error: { code: 'BUNDLE_INVALID' } }],
    })
  })

  it('lets two writers race: every sequence is used once, and both contents get in', async () => {
    await publish(ROOT, OWN)
    const other = fixture.another(1)
    const done = await Promise.all(
      Array.from({ length: 6 }, (_, n) =>
        (n % 2 === 0 ? fixture.publisher : other).publish('shop', {
          root: ROOT,
          namespace: compiled(fakeModule('namespace/shop', `racer ${n}`)),
        }),
      ),
    )
    const sequences = done.map(({ sequence }) => sequence)
    expect(new Set(sequences).size).toBe(6)
    expect((await index()).revisions.map(({ sequence }) => sequence)).toEqual(
      [...sequences, NOW.getTime() / 1000].sort((a, b) => b! - a!),
    )
  })

  it('does not let a former leader write over a later one', async () => {
    await fixture.another(2).publish('shop', { root: ROOT_2, namespace: NONE })
    expect(await publish(ROOT, NONE)).toMatchObject({
      outcome: 'refused',
      problems: [{ error: { code: 'BUNDLE_STALE' } }],
    })
    expect(await inForce()).toEqual(['root 2'])
    const late = fixture.another(3, { holds: () => false })
    await expect(late.publish('shop', { root: ROOT, namespace: NONE })).rejects.toMatchObject({ code: 'BUNDLE_STALE' })
  })

  it('continues above what proxies have when the index is lost', async () => {
    const first = await publish(ROOT, OWN)
    for (let n = 0; n < 5; n++) await publish(ROOT, compiled(fakeModule('namespace/shop', `n ${n}`)))
    fixture.objects.all.delete(indexName('shop'))
    fixture.clock = new Date(NOW.getTime() + 60_000)
    expect((await publish(ROOT, OWN)).sequence).toBeGreaterThan(first.sequence! + 5)
  })

  it.each(['', '{', '[]', '{"version": 1}', '{"version":1,"scope":"namespace/bank"}', 'x'.repeat(100_000)])(
    'writes an index anew that somebody wrote over, above what proxies have: %#',
    async (garbage) => {
      const first = await publish(ROOT, OWN)
      for (let n = 0; n < 5; n++) await publish(ROOT, compiled(fakeModule('namespace/shop', `n ${n}`)))
      const found = fixture.objects.all.get(indexName('shop'))!
      fixture.objects.all.set(found.name, { ...found, data: { 'index.json': garbage } })
      // Without rules there is nothing to write it from: it is told.
      expect(await fixture.publisher.upkeep('shop')).toMatchObject({
        outcome: 'refused',
        problems: [{ part: 'bundle', error: { code: 'BUNDLE_INVALID' } }],
      })
      const again = await publish(ROOT_2, OWN)
      expect(again).toMatchObject({ outcome: 'published', problems: [] })
      expect(again.sequence).toBeGreaterThan(first.sequence! + 5)
      expect((await index()).revisions).toHaveLength(1)
      expect(await inForce()).toEqual(['root 2', 'own 1'])
      expect((await publish(ROOT_2, OWN)).outcome).toBe('unchanged')
    },
  )

  it('does not publish over an index of a later release', async () => {
    await publish(ROOT, OWN)
    const found = fixture.objects.all.get(indexName('shop'))!
    fixture.objects.all.set(found.name, { ...found, data: { 'index.json': '{"version": 2}' } })
    await expect(publish(ROOT_2, OWN)).rejects.toMatchObject({ code: 'BUNDLE_INVALID' })
    expect(fixture.objects.all.get(indexName('shop'))!.data['index.json']).toBe('{"version": 2}')
  })

  it('keeps ten revisions', async () => {
    for (let n = 0; n < 14; n++) await publish(ROOT, compiled(fakeModule('namespace/shop', `n ${n}`)))
    expect((await index()).revisions).toHaveLength(10)
  })
})

describe('signing again', () => {
  it('happens well before expiry, and is no new revision', async () => {
    const first = await publish(ROOT, OWN)
    const before = (await index()).revisions[0]!
    fixture.clock = new Date(NOW.getTime() + LIFETIME_MS / 2 - HOUR_MS * 5)
    expect((await fixture.publisher.upkeep('shop')).outcome).toBe('unchanged')
    fixture.clock = new Date(NOW.getTime() + LIFETIME_MS * 0.62)
    expect(await fixture.publisher.upkeep('shop')).toEqual({ ...first, outcome: 'signed-again' })
    await fixture.publisher.settled()
    const { revisions } = await index()
    expect(revisions).toHaveLength(1)
    expect(revisions[0]).toEqual({
      ...before,
      audited: true,
      issued_at: fixture.clock.toISOString(),
      expires_at: new Date(fixture.clock.getTime() + LIFETIME_MS).toISOString(),
      signature: expect.not.stringMatching(before.signature) as string,
    })
    expect(await inForce()).toEqual(['root 1', 'own 1'])
    expect(fixture.events).toHaveLength(1)
  })

  it('happens at once by a new key when the Secret was removed, from the rules, since the old signature is not believed', async () => {
    await publish(ROOT, OWN)
    const [old] = (await index()).revisions
    fixture.secret.text = null
    const restarted = fixture.another(2)
    expect(await restarted.publish('shop', { root: ROOT, namespace: OWN })).toMatchObject({ outcome: 'signed-again' })
    expect((await index()).revisions[0]!.key_id).not.toBe(old!.key_id)
    expect(await inForce()).toEqual(['root 1', 'own 1'])
  })

  it('does not sign what was changed in the store', async () => {
    await publish(ROOT, OWN)
    const stored = await index()
    const [revision] = stored.revisions
    const { packedBytes: _, ...forged } = await fixture.store.put([fakeModule('root', 'forged')], {})
    const record = (await readIndex(fixture.objects, 'shop'))!
    await writeIndex(fixture.objects, record, 'shop', { ...record.index, revisions: [{ ...revision!, ...forged }] })
    fixture.clock = new Date(NOW.getTime() + LIFETIME_MS * 0.9)
    expect(await fixture.publisher.upkeep('shop')).toMatchObject({
      outcome: 'refused',
      problems: [{ part: 'bundle', error: { code: 'BUNDLE_UNTRUSTED' } }],
    })
    expect((await index()).revisions[0]!.signature).toBe(revision!.signature)
  })
})

describe('what somebody did to the index', () => {
  type Revision = Awaited<ReturnType<typeof index>>['revisions'][number]
  const edits: { name: string; edit: (revision: Revision) => Partial<Revision> }[] = [
    { name: 'another module', edit: ({ policy }) => ({ modules: [policy] }) },
    { name: 'one module less', edit: ({ modules }) => ({ modules: modules.slice(0, 1) }) },
    { name: 'a module that is not there', edit: () => ({ modules: ['0'.repeat(64)] }) },
    {
      name: 'another signature',
      edit: ({ signature }) => ({ signature: `${signature.slice(0, -86)}${'A'.repeat(86)}` }),
    },
    { name: 'a later expiry', edit: () => ({ expires_at: '2099-01-01T00:00:00.000Z' }) },
    { name: 'a lower sequence', edit: () => ({ sequence: 1 }) },
    { name: 'a sequence that ends all', edit: () => ({ sequence: Number.MAX_SAFE_INTEGER }) },
  ]
  it.each(edits)('$name: it is published anew, with a sequence that proxies take', async ({ edit }) => {
    await publish(ROOT, OWN)
    await fixture.publisher.settled()
    const record = (await readIndex(fixture.objects, 'shop'))!
    const [revision] = record.index.revisions
    const forged = { ...revision!, ...edit(revision!) }
    await writeIndex(fixture.objects, record, 'shop', { ...record.index, revisions: [forged] })
    expect((await fixture.publisher.upkeep('shop')).problems).toMatchObject([{ error: { code: 'BUNDLE_UNTRUSTED' } }])
    fixture.clock = new Date(NOW.getTime() + 60_000)
    const { outcome, sequence } = await publish(ROOT, OWN)
    expect([outcome, sequence! > revision!.sequence, Number.isSafeInteger(sequence! + 1_000)]).toEqual([
      'published',
      true,
      true,
    ])
    expect(await inForce()).toEqual(['root 1', 'own 1'])
    expect((await index()).revisions.map(({ signature }) => signature)).not.toContain(forged.signature)
    await fixture.publisher.settled()
    const writes = fixture.objects.writes.length
    expect((await publish(ROOT, OWN)).outcome).toBe('unchanged')
    expect(fixture.objects.writes.length).toBe(writes)
  })

  it('labels taken off: they are put back', async () => {
    await publish(ROOT, OWN)
    await fixture.publisher.settled()
    const object = fixture.objects.all.get(indexName('shop'))!
    fixture.objects.all.set(object.name, { ...object, labels: {} })
    expect((await publish(ROOT, OWN)).outcome).toBe('signed-again')
    expect(fixture.objects.all.get(object.name)!.labels).toEqual(object.labels)
    expect(await inForce()).toEqual(['root 1', 'own 1'])
  })
})

describe('rollback', () => {
  const ask = (revision: string | undefined): void => fixture.objects.annotate(indexName('shop'), ROLLBACK_TO, revision)

  it('puts an earlier content in force under a new sequence, until it is cleared', async () => {
    const first = await publish(ROOT, OWN)
    const second = await publish(ROOT_2, OWN_2)
    ask(first.revision!)
    const back = await fixture.publisher.upkeep('shop')
    expect(back).toMatchObject({ outcome: 'rolled-back', sequence: second.sequence! + 1 })
    expect(await inForce()).toEqual(['root 1', 'own 1'])
    // The reconciler does not undo it, nor does a new rule.
    expect((await publish(ROOT_2, OWN_2)).outcome).toBe('held')
    expect((await publish(compiled(fakeModule('root', 'root 3')), OWN_2)).outcome).toBe('held')
    expect(await inForce()).toEqual(['root 1', 'own 1'])
    ask(undefined)
    expect((await publish(ROOT_2, OWN_2)).outcome).toBe('published')
    expect(await inForce()).toEqual(['root 2', 'own 2'])
    await fixture.publisher.settled()
    expect(fixture.events.map(({ event_type, context }) => [event_type, context?.['rolled_back_to']])).toEqual([
      ['policy.bundle.published', undefined],
      ['policy.bundle.published', undefined],
      ['policy.bundle.rolled-back', first.revision],
      ['policy.bundle.published', undefined],
    ])
  })

  it('keeps what is in force, and says what there is, when the revision is not stored', async () => {
    const { revision } = await publish(ROOT, OWN)
    ask('7-0123456789abcdef')
    const { outcome, problems } = await publish(ROOT_2, OWN)
    expect(outcome).toBe('held')
    expect(problems[0]!.error.message).toContain(revision)
    expect(await inForce()).toEqual(['root 1', 'own 1'])
  })

  it('keeps the revision that is asked for past the tenth, and signs it again in time', async () => {
    const first = await publish(ROOT, OWN)
    for (let n = 0; n < 9; n++) await publish(ROOT, compiled(fakeModule('namespace/shop', `n ${n}`)))
    ask(first.revision!)
    await fixture.publisher.upkeep('shop')
    expect((await index()).revisions.at(-1)!.revision).toBe(first.revision)
    fixture.clock = new Date(NOW.getTime() + LIFETIME_MS * 0.9)
    expect((await fixture.publisher.upkeep('shop')).outcome).toBe('held')
    expect((await index()).revisions[0]!.issued_at).toBe(fixture.clock.toISOString())
  })
})

describe('the audit of publications', () => {
  it('is retried with the same bytes until the ledger acknowledges it, by whichever leader', async () => {
    fixture.ledgerIsUp = false
    await publish(ROOT, OWN)
    await publish(ROOT, OWN_2)
    await fixture.publisher.settled()
    const waiting = (await index()).outbox
    expect(waiting).toHaveLength(2)
    fixture.ledgerIsUp = true
    await fixture.another(2).deliver('shop')
    expect(fixture.events).toEqual(waiting)
    expect(await index()).toMatchObject({ outbox: [], revisions: [{ audited: true }, { audited: true }] })
  })

  it('holds further publications back when too many wait', async () => {
    fixture.ledgerIsUp = false
    for (let n = 0; n < 200; n++) await publish(ROOT, compiled(fakeModule('namespace/shop', `n ${n}`)))
    expect(await publish(ROOT_2, OWN)).toMatchObject({
      outcome: 'refused',
      problems: [{ part: 'bundle', error: { code: 'LEDGER_UNREACHABLE' } }],
    })
    fixture.ledgerIsUp = true
    await fixture.publisher.deliver('shop')
    expect((await publish(ROOT_2, OWN)).outcome).toBe('published')
  }, 60_000)
})
