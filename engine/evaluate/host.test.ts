import { beforeAll, describe, expect, it } from 'vitest'
import { compileSample, sampleInput, sampleSources } from '#engine/compile/fixtures/sample.ts'
import { ensureOpa } from '#tools/opa/build.ts'
import { createWasmHost } from './host.ts'
import { webAssembly, type WasmModule } from './webassembly.ts'

let module: WasmModule
beforeAll(async () => {
  const { wasm } = await compileSample(await ensureOpa(), await sampleSources())
  module = await webAssembly.compile(wasm)
}, 600_000)

describe('createWasmHost', () => {
  it('does not grow with the number of evaluations', () => {
    const host = createWasmHost(module, { maxMemoryMiB: 64, data: '{"policy":{"limits":{"email":2}}}' })
    const entrypoint = host.entrypoints.get('signet/aggregate_root/decisions')!
    const body = { items: Array.from({ length: 2_000 }, (_, i) => ({ label: `item ${i}`, text: 'é'.repeat(50) })) }
    const input = { ...sampleInput(), response: { ...sampleInput().response, body } }
    const inputs = [JSON.stringify(sampleInput()), JSON.stringify(input)]
    for (const text of inputs) host.evaluate(entrypoint, text, 1_000)
    const { memoryBytes } = host
    for (let i = 0; i < 60; i++) host.evaluate(entrypoint, inputs[i % 2]!, 1_000)
    expect(host.memoryBytes).toBe(memoryBytes)
  })

  it('is not used again after a fault', () => {
    const host = createWasmHost(module, { maxMemoryMiB: 16 })
    const entrypoint = host.entrypoints.get('signet/root/route/decision')!
    expect(() => host.evaluate(entrypoint, '{', 1_000)).toThrow()
    expect(() => host.evaluate(entrypoint, '{}', 1_000)).toThrow(/after a fault/)
  })
})
