import { readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { generateBundleKey, signBundle } from '#engine/bundle/sign.ts'
import { loadBundle } from '#engine/bundle/load.ts'
import { readStandardPack } from '#engine/bundle/standard.ts'
import { createEvaluator } from '#engine/evaluate/evaluator.ts'
import { ensureOpa } from '#tools/opa/build.ts'
import { compileStandardPack, STANDARD_PACK_DIRECTORY } from '#tools/opa/build-standard-pack.ts'

describe('the compiled standard pack', () => {
  it('is what its sources compile to; else run: node tools/opa/build-standard-pack.ts', async () => {
    const files = await compileStandardPack(await ensureOpa())
    expect((await readdir(STANDARD_PACK_DIRECTORY)).sort()).toEqual([...files.keys()].sort())
    for (const [name, want] of files) {
      const found = await readFile(join(STANDARD_PACK_DIRECTORY, name))
      expect(found.equals(want), `policies/dist/standard/${name} differs`).toBe(true)
    }
  }, 600_000)

  it('can be signed, loaded and run without OPA, and reads no body', async () => {
    const { key, trust } = await generateBundleKey()
    const now = new Date('2026-11-23T09:30:00.000Z')
    const expiresAt = new Date(now.getTime() + 60_000)
    const modules = await readStandardPack(STANDARD_PACK_DIRECTORY)
    const bytes = await signBundle({ modules, policy: {}, scope: '*', sequence: 1, issuedAt: now, expiresAt, key })
    const evaluator = await createEvaluator(await loadBundle(bytes, { trust, scope: '*', now }), {
      timeoutMs: 200,
      maxMemoryMiB: 32,
    })
    expect(evaluator.rules.length).toBeGreaterThan(0)
    expect(evaluator.reads('response.body')).toBe(false)
    evaluator.close()
  })
})
