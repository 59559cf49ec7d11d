import { mkdtemp, rename, rm, writeFile } from 'node:fs/promises'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { JWK } from 'jose'
import { afterEach, beforeAll, describe, expect, it } from 'vitest'
import type { SignetError } from '#core/error/signet-error.ts'
import { compileSample, PASS, ruleSource } from '#engine/compile/fixtures/sample.ts'
import { ensureOpa } from '#tools/opa/build.ts'
import type { BundleModule } from './build.ts'
import type { VerifiedBundle } from './load.ts'
import { bundlesOfDirectory, createBundleServer } from './serve.ts'
import { generateBundleKey, signBundle } from './sign.ts'
import type { TrustRoot } from './trust.ts'
import { watchBundle, type WatchBundleOptions } from './watch.ts'

const NOW = new Date('2026-11-23T09:30:00.000Z')

let module: BundleModule
let key: JWK
let trust: TrustRoot
let stranger: JWK
beforeAll(async () => {
  module = await compileSample(await ensureOpa(), [ruleSource('own', PASS)])
  ;({ key, trust } = await generateBundleKey())
  stranger = (await generateBundleKey()).key
}, 600_000)

function sign(sequence: number, changes: { key?: JWK; limit?: number; expiresAt?: Date } = {}): Promise<Buffer> {
  return signBundle({
    modules: [module],
    policy: { limit: changes.limit ?? 1 },
    scope: '*',
    sequence,
    issuedAt: NOW,
    expiresAt: changes.expiresAt ?? new Date(NOW.getTime() + 60_000),
    key: changes.key ?? key,
  })
}

const cleanups: (() => unknown)[] = []
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).toReversed()) await cleanup()
})

async function temporaryDirectory(): Promise<string> {
  const directory = await mkdtemp(join(tmpdir(), 'signet-watch-test-'))
  cleanups.push(() => rm(directory, { recursive: true, force: true }))
  return directory
}

/** Replaces the file in one step, as a publisher does. */
async function publish(path: string, bytes: Buffer): Promise<void> {
  await writeFile(`${path}.new`, bytes)
  await rename(`${path}.new`, path)
}

function watch(
  source: string,
  changes: Partial<WatchBundleOptions> = {},
): { seen: string[]; bundles: VerifiedBundle[]; stop: () => Promise<void> } {
  const seen: string[] = []
  const bundles: VerifiedBundle[] = []
  const controller = new AbortController()
  const done = watchBundle({
    source,
    intervalMs: 10,
    trust,
    scope: '*',
    onBundle: (bundle) => {
      bundles.push(bundle)
      seen.push(bundle.revision.split('-')[0]!)
    },
    onError: (error: SignetError) => {
      if (seen.at(-1) !== error.code) seen.push(error.code)
    },
    signal: controller.signal,
    now: () => NOW,
    ...changes,
  })
  const stop = async (): Promise<void> => {
    controller.abort()
    await done
  }
  cleanups.push(stop)
  return { seen, bundles, stop }
}

describe('watchBundle', () => {
  it('takes good bundles from a file, and keeps the last good one through bad ones', async () => {
    const path = join(await temporaryDirectory(), 'b.tar.gz')
    const { seen } = watch(path)
    const steps: [string, Buffer | null][] = [
      ['BUNDLE_UNAVAILABLE', null],
      ['2', await sign(2)],
      ['BUNDLE_INVALID', Buffer.from('corrupt')],
      ['3', await sign(3)],
      ['BUNDLE_UNTRUSTED', await sign(4, { key: stranger })],
      ['BUNDLE_STALE', await sign(2)],
      ['4', await sign(4)],
      ['BUNDLE_STALE', await sign(4, { limit: 2 })],
      ['BUNDLE_EXPIRED', await sign(5, { expiresAt: new Date(NOW.getTime() + 1), limit: 3 })],
    ]
    const want: string[] = []
    let clock = NOW
    for (const [step, bytes] of steps.slice(0, -1)) {
      if (bytes !== null) await publish(path, bytes)
      want.push(step)
      await expect.poll(() => seen, { timeout: 5_000 }).toEqual(want)
    }
    clock = new Date(NOW.getTime() + 1)
    const expired = watch(path, { now: () => clock })
    await publish(path, steps.at(-1)![1]!)
    await expect.poll(() => expired.seen.at(-1), { timeout: 5_000 }).toBe('BUNDLE_EXPIRED')
  })

  it('reads an unchanged file once', async () => {
    const path = join(await temporaryDirectory(), 'b.tar.gz')
    await publish(path, await sign(1))
    const { bundles, seen } = watch(path)
    await expect.poll(() => bundles.length).toBe(1)
    await new Promise((resolve) => setTimeout(resolve, 100))
    expect(seen).toEqual(['1'])
  })

  it('says when the bundle in force has expired, and keeps it', async () => {
    const path = join(await temporaryDirectory(), 'b.tar.gz')
    await publish(path, await sign(1))
    let clock = NOW
    const { seen, bundles } = watch(path, { now: () => clock })
    await expect.poll(() => seen).toEqual(['1'])
    clock = new Date(NOW.getTime() + 60_000)
    await expect.poll(() => seen).toEqual(['1', 'BUNDLE_EXPIRED'])
    expect(bundles).toHaveLength(1)
  })

  it('tries a bundle again that could not be taken into force', async () => {
    const path = join(await temporaryDirectory(), 'b.tar.gz')
    await publish(path, await sign(1))
    let failures = 2
    const { seen } = watch(path, {
      onBundle: () => {
        if (failures-- > 0) throw new Error('no room')
        seen.push('taken')
      },
    })
    await expect.poll(() => seen).toEqual(['BUNDLE_UNAVAILABLE', 'taken'])
  })

  it('follows an http source by ETag, through its failures', async () => {
    const directory = await temporaryDirectory()
    const answers: number[] = []
    const server = createBundleServer({ getBundle: bundlesOfDirectory(directory) })
    server.on('request', (_, response) => response.on('finish', () => answers.push(response.statusCode)))
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
    const { port } = server.address() as AddressInfo
    cleanups.push(() => new Promise((resolve) => server.close(resolve).closeAllConnections()))
    const path = join(directory, 'root.tar.gz')
    const { seen } = watch(`http://127.0.0.1:${port}/bundles/root.tar.gz`)
    await expect.poll(() => seen).toEqual(['BUNDLE_UNAVAILABLE'])
    await publish(path, await sign(1))
    await expect.poll(() => seen).toEqual(['BUNDLE_UNAVAILABLE', '1'])
    await expect.poll(() => answers.at(-1)).toBe(304)
    await publish(path, Buffer.from('corrupt'))
    await expect.poll(() => seen.at(-1)).toBe('BUNDLE_INVALID')
    await publish(path, await sign(2))
    await expect.poll(() => seen.at(-1)).toBe('2')
  })

  it('does not wait for a server that does not answer, and reports no credentials', async () => {
    const server = createBundleServer({ getBundle: () => new Promise<null>(() => {}) })
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
    const { port } = server.address() as AddressInfo
    cleanups.push(() => new Promise((resolve) => server.close(resolve).closeAllConnections()))
    const errors: SignetError[] = []
    const source = `http://127.0.0.1:${port}/bundles/root.tar.gz?token=secret`
    watch(source, { fetchTimeoutMs: 30, onError: (error) => errors.push(error) })
    await expect.poll(() => errors.length, { timeout: 5_000 }).toBeGreaterThan(1)
    expect(errors[0]).toMatchObject({ code: 'BUNDLE_UNAVAILABLE' })
    expect(errors[0]!.message).not.toContain('secret')
  })
})
