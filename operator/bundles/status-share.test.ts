import { gzipSync } from 'node:zlib'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { manualClock, type ManualClock } from '#operator/clock.fixture.ts'
import { memoryObjects, type MemoryObjects } from './memory-objects.fixture.ts'
import { createStatusShare, type StatusShare } from './status-share.ts'
import type { ProxyStatus } from './status-report.ts'

let clock: ManualClock
let objects: MemoryObjects
let stopping: AbortController
beforeEach(() => {
  clock = manualClock()
  objects = memoryObjects(() => new Date(clock.wallMs()))
  stopping = new AbortController()
})
afterEach(() => stopping.abort())

type Share = StatusShare & { changes: string[]; errors: unknown[] }
function share(replica: string, maxProxies = 100): Share {
  const changes: string[] = []
  const errors: unknown[] = []
  const made = createStatusShare({
    objects,
    replica,
    clock,
    maxProxies,
    onChange: (namespace) => changes.push(namespace),
    onError: (error) => errors.push(error),
  })
  void made.run(stopping.signal)
  return { ...made, changes, errors }
}
const status = (
  pod: string,
  revision: string | null = '1-0123456789abcdef',
  code: string | null = null,
): ProxyStatus => ({
  namespace: 'shop',
  pod,
  uid: `uid of ${pod}`,
  revision,
  code,
  message: code,
  reportedMs: clock.wallMs(),
})
const shown = (of: StatusShare): string[] =>
  of.view
    .of('shop')
    .map(({ pod, revision, code }) => `${pod} ${revision?.split('-')[0]} ${code}`)
    .sort()
/** Unpacking is done by other threads. */
const settled = async (): Promise<void> => {
  for (let n = 0; n < 10; n++) await new Promise((resolve) => setTimeout(resolve, 2))
}
async function advance(ms: number): Promise<void> {
  for (let passed = 0; passed < ms; passed += 2_000) {
    await clock.advance(2_000)
    await settled()
  }
}

describe('the status of proxies', () => {
  it('is known at every replica within seconds, also when a proxy goes from one to another', async () => {
    const [one, two] = [share('one'), share('two')]
    expect(one.report(status('a'))).toBe('changed')
    expect(two.report(status('b'))).toBe('changed')
    await advance(2_000)
    expect([shown(one), shown(two)]).toEqual([
      ['a 1 null', 'b 1 null'],
      ['a 1 null', 'b 1 null'],
    ])
    two.report(status('a', '2-0123456789abcdef', 'BUNDLE_STALE'))
    await advance(2_000)
    expect([shown(one), shown(two)]).toEqual([
      ['a 2 BUNDLE_STALE', 'b 1 null'],
      ['a 2 BUNDLE_STALE', 'b 1 null'],
    ])
    expect(one.changes).toContain('shop')
    // A new leader that has heard nothing itself knows all of it.
    const three = share('three')
    await settled()
    expect(shown(three)).toEqual(['a 2 BUNDLE_STALE', 'b 1 null'])
  })

  it('is written when it says something new, else every half minute', async () => {
    const one = share('one')
    one.report(status('a'))
    await advance(2_000)
    const writes = objects.writes.length
    for (let n = 0; n < 14; n++) {
      expect(one.report(status('a'))).toBe('heartbeat')
      await advance(2_000)
    }
    expect(objects.writes.length).toBe(writes)
    await advance(4_000)
    expect(objects.writes.length).toBe(writes + 1)
  })

  it('is forgotten with the proxy', async () => {
    const [one, two] = [share('one'), share('two')]
    one.report(status('a'))
    await advance(124_000)
    expect([shown(one), shown(two)]).toEqual([[], []])
    expect(two.changes.length).toBeGreaterThanOrEqual(2)
  })

  it('is bounded', () => {
    const one = share('one', 2)
    expect(['a', 'b', 'c', 'a'].map((pod) => one.report(status(pod)))).toEqual([
      'changed',
      'changed',
      'full',
      'heartbeat',
    ])
  })

  it('survives what somebody else writes in its place', async () => {
    const one = share('one')
    one.report(status('a'))
    await advance(2_000)
    for (const content of [
      Buffer.from('no gzip'),
      gzipSync('{}'),
      gzipSync('[{"uid": 1}]'),
      gzipSync(Buffer.alloc(40 << 20)),
    ]) {
      await objects.create({
        name: `signet-bundle-status-other-${content.length}`,
        labels: { 'signet.dev/bundle-object': 'status' },
        annotations: {},
        data: {},
        binaryData: { 'proxies.json.gz': content },
      })
    }
    await settled()
    await expect.poll(() => one.errors.length).toBe(4)
    expect(shown(one)).toEqual(['a 1 null'])
  })
})
