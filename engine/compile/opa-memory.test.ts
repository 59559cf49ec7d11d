import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { createOpaMemory, memoryForSources, type OpaMemory } from './opa-memory.ts'
import { runOpa } from './opa.ts'

const later = (): number => performance.now() + 60_000

/** Whether each of these has its share already, in the order of asking. */
async function held(takes: readonly Promise<unknown>[]): Promise<boolean[]> {
  await new Promise((resolve) => setImmediate(resolve))
  const open = Symbol('open')
  return Promise.all(takes.map(async (take) => (await Promise.race([take, Promise.resolve(open)])) !== open))
}

describe('createOpaMemory', () => {
  it.each([
    { totalMiB: 768, want: { ruleMiB: 96, checks: 96, root: 480, namespaces: 288 } },
    { totalMiB: 2_048, want: { ruleMiB: 256, checks: 256, root: 1_280, namespaces: 768 } },
    { totalMiB: 8_192, want: { ruleMiB: 256, checks: 256, root: 7_424, namespaces: 4_454 } },
  ])('divides $totalMiB MiB', ({ totalMiB, want }) => {
    const { checks, root, namespaces } = createOpaMemory(totalMiB)
    const shown = { ruleMiB: root.ruleMiB, checks: checks.maxMiB, root: root.maxMiB, namespaces: namespaces.maxMiB }
    expect(shown).toEqual(want)
    // Three checks and the largest compilation are all that there is.
    expect(3 * checks.maxMiB + root.maxMiB).toBeLessThanOrEqual(totalMiB)
  })

  it('never gives more than there is, whoever asks for how much, and gives all of it back', async () => {
    const lanes = createOpaMemory(2_048)
    let heldMiB = 0
    let most = 0
    const work = async (lane: OpaMemory, mib: number): Promise<void> => {
      const release = await lane.take(mib, later())
      heldMiB += Math.min(mib, lane.maxMiB)
      most = Math.max(most, heldMiB)
      await new Promise((resolve) => setTimeout(resolve, mib % 3))
      heldMiB -= Math.min(mib, lane.maxMiB)
      release()
      release()
    }
    const all = Array.from({ length: 300 }, (_, index) =>
      work([lanes.checks, lanes.root, lanes.namespaces][index % 3]!, (index * 97) % 2_500),
    )
    await Promise.all(all)
    expect(heldMiB).toBe(0)
    expect(most).toBeGreaterThan(1_024)
    expect(most).toBeLessThanOrEqual(2_048)
    const again = [lanes.root.take(1_280, later()), ...[1, 2, 3].map(() => lanes.checks.take(256, later()))]
    expect(await held(again)).toEqual([true, true, true, true])
  })

  it('keeps checks and the platform apart from what namespaces take', async () => {
    const { checks, root, namespaces } = createOpaMemory(2_048)
    const own = [namespaces.take(700, later()), namespaces.take(700, later())]
    expect(await held(own)).toEqual([true, false])
    expect(await held([checks.take(256, later()), root.take(512, later())])).toEqual([true, true])
  })

  it('lets a big one of the platform go first as soon as there is room', async () => {
    const { root, namespaces } = createOpaMemory(2_048)
    const first = await namespaces.take(500, later())
    const big = root.take(1_280, later())
    const small = namespaces.take(100, later())
    expect(await held([big, small])).toEqual([false, false])
    first()
    expect(await held([big, small])).toEqual([true, false])
    ;(await big)()
    expect(await held([small])).toEqual([true])
  })

  it('does not wait for ever, and who gives up holds nobody up', async () => {
    const { root, namespaces } = createOpaMemory(2_048)
    const first = await namespaces.take(500, later())
    const big = root.take(1_280, performance.now() + 20)
    const small = namespaces.take(100, later())
    await expect(big).rejects.toMatchObject({ code: 'OPA_UNAVAILABLE' })
    expect(await held([small])).toEqual([true])
    first()
  })

  it.each([
    { bytes: 0, want: 256 },
    { bytes: 160_000, want: 296 },
    { bytes: 3_716_541, want: 1_164 },
  ])('asks for $want MiB for $bytes bytes', ({ bytes, want }) => expect(memoryForSources(bytes)).toBe(want))
})

describe('OPA’s processes', () => {
  let directory = ''
  let binary = ''
  beforeAll(async () => {
    directory = await mkdtemp(join(tmpdir(), 'signet-memory-'))
    binary = join(directory, 'opa')
    // In the place of OPA: says when it is there, and stays for a moment.
    await writeFile(binary, `#!/bin/sh\necho "$GOMEMLIMIT"\nexec /bin/sleep 0.2\n`, { mode: 0o755 })
  })
  afterAll(() => rm(directory, { recursive: true, force: true }))

  it('wait for their share, are told of it, and have their own time', async () => {
    const { namespaces } = createOpaMemory(2_048)
    const startedMs = performance.now()
    const opa = { binary, directory, deadline: later(), memory: namespaces, maxMemoryMiB: 768, timeoutMs: 1_000 }
    const ran = await Promise.all(Array.from({ length: 6 }, () => runOpa(opa, ['build'])))
    // One after the other: more than the second that each has.
    expect(performance.now() - startedMs).toBeGreaterThan(1_200)
    expect(new Set(ran.map(({ stdout }) => stdout.trim()))).toEqual(new Set(['576MiB']))
  })
})
