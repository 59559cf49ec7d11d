import { parentPort } from 'node:worker_threads'
import { LRUCache } from 'lru-cache'
import { createWasmHost, WasmFault, type WasmHost } from '#engine/evaluate/host.ts'
import { webAssembly } from '#engine/evaluate/webassembly.ts'

/** One value of one module. `wasm` comes with the first call for a digest, and again when the thread says that it has let go of it. */
export type JudgeTask = {
  readonly id: number
  readonly digest: string
  readonly wasm?: Uint8Array
  readonly entrypoint: string
  /** JSON text. */
  readonly input: string
  readonly timeoutMs: number
}
export type JudgeAnswer = { readonly id: number } & (
  | { readonly value: unknown }
  | { readonly fault: { readonly kind: string; readonly message: string } }
  | { readonly unknown: true }
)

/** Instances kept; each has at most so much memory. */
const KEPT = 32
const MAX_MEMORY_MIB = 64
const hosts = new LRUCache<string, WasmHost>({ max: KEPT })
const modules = new LRUCache<string, Uint8Array>({ max: KEPT })

async function hostOf(task: JudgeTask): Promise<WasmHost | null> {
  if (task.wasm !== undefined) modules.set(task.digest, task.wasm)
  const kept = hosts.get(task.digest)
  if (kept !== undefined) return kept
  const wasm = modules.get(task.digest)
  if (wasm === undefined) return null
  const host = createWasmHost(await webAssembly.compile(wasm), { maxMemoryMiB: MAX_MEMORY_MIB, data: '{"policy":{}}' })
  hosts.set(task.digest, host)
  return host
}

async function judge(task: JudgeTask): Promise<JudgeAnswer> {
  const { id } = task
  try {
    const host = await hostOf(task)
    if (host === null) return { id, unknown: true }
    const entrypoint = host.entrypoints.get(task.entrypoint)
    if (entrypoint === undefined) throw new WasmFault('abort', `there is no ${task.entrypoint}`)
    return { id, value: host.evaluate(entrypoint, task.input, task.timeoutMs) }
  } catch (error) {
    // After a fault an instance must not be used any more.
    hosts.delete(task.digest)
    const kind = error instanceof WasmFault ? error.kind : 'abort'
    return { id, fault: { kind, message: error instanceof Error ? error.message : 'unknown' } }
  }
}

let turn = Promise.resolve()
parentPort!.on('message', (task: JudgeTask) => {
  turn = turn.then(async () => parentPort!.postMessage(await judge(task)))
})
