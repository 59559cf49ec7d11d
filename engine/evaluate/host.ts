import { createContext, Script } from 'node:vm'
import { webAssembly, type WasmMemory, type WasmModule } from './webassembly.ts'

/**
 * A host for the modules that `opa build -t wasm` makes (OPA wasm ABI 1.2 and newer,
 * https://www.openpolicyagent.org/docs/wasm#abis). Unlike the npm runtime it has no built-ins of its own, so that a rule
 * means the same as in OPA; it lets the module's allocator make room for the input, so that memory does not creep
 * (npm-opa-wasm issue 143: growth by the host is unknown to the allocator, which then grows again); and it can interrupt.
 */
export interface WasmHost {
  /** Entrypoint names (`signet/root/pii/decision`) and their numbers. */
  readonly entrypoints: ReadonlyMap<string, number>
  /** Names of built-ins that the module would call in its host; always empty but for the capabilities generator. */
  readonly hostBuiltins: readonly string[]
  /**
   * The value at the entrypoint for this input (JSON text), parsed; undefined where OPA's is undefined. Interrupted after
   * `timeoutMs`. Throws WasmFault; after that this host must not be used any more.
   */
  evaluate(entrypoint: number, input: string, timeoutMs: number): unknown
  readonly memoryBytes: number
}

/** `input`: before the rules ran, while the input was read: no rule's fault. */
export type FaultKind = 'timeout' | 'memory' | 'abort' | 'trap' | 'input' | 'output'

/** An evaluation that did not end. The instance is in an unknown state. */
export class WasmFault extends Error {
  readonly kind: FaultKind
  constructor(kind: FaultKind, message: string, cause?: unknown) {
    super(message, { cause })
    this.name = 'WasmFault'
    this.kind = kind
  }
}

interface Exports {
  opa_wasm_abi_version: { value: number }
  opa_wasm_abi_minor_version: { value: number }
  builtins(): number
  entrypoints(): number
  opa_malloc(size: number): number
  opa_json_parse(address: number, length: number): number
  opa_json_dump(value: number): number
  opa_heap_ptr_get(): number
  opa_heap_ptr_set(address: number): void
  opa_eval_ctx_new(): number
  opa_eval_ctx_set_input(context: number, value: number): void
  opa_eval_ctx_set_data(context: number, value: number): void
  opa_eval_ctx_set_entrypoint(context: number, entrypoint: number): void
  opa_eval_ctx_get_result(context: number): number
  eval(context: number): number
}

/** Of the JSON of one entrypoint's result, in UTF-16 units. */
const MAX_RESULT_LENGTH = 4 << 20

const encoder = new TextEncoder()
const decoder = new TextDecoder('utf-8', { fatal: true })

/**
 * One context and one script for all hosts: `vm` is here only for its `timeout`, which interrupts wasm, too (V8 ends the
 * execution at the next loop edge or call). It is no security boundary; nothing but our own one-line script runs in it.
 */
const watchdog = createContext({ call: undefined as (() => void) | undefined })
const invoke = new Script('call()')

/** Instantiates a compiled module. Throws Error when it is not an OPA module that this host can run. */
export function createWasmHost(
  module: WasmModule,
  options: { maxMemoryMiB: number; data?: string; allowHostBuiltins?: boolean },
): WasmHost {
  let memory: WasmMemory
  const readText = (address: number): string => {
    const bytes = new Uint8Array(memory.buffer)
    return decoder.decode(bytes.subarray(address, bytes.indexOf(0, address)))
  }
  const refuseBuiltin = (id: number): never => {
    throw new WasmFault('abort', `built-in ${id} is not available`)
  }
  const env = {
    opa_abort: (address: number) => {
      const message = readText(address)
      throw new WasmFault(message === 'opa_malloc: failed' ? 'memory' : 'abort', message)
    },
    opa_println: () => {},
    opa_builtin0: refuseBuiltin,
    opa_builtin1: refuseBuiltin,
    opa_builtin2: refuseBuiltin,
    opa_builtin3: refuseBuiltin,
    opa_builtin4: refuseBuiltin,
  }
  const instance = instantiate(module, env, Math.max(5, options.maxMemoryMiB * 16))
  memory = instance.memory
  const wasm = instance.exports as Exports
  if (wasm.opa_wasm_abi_version?.value !== 1 || wasm.opa_wasm_abi_minor_version?.value < 2) {
    throw new Error('not an OPA module of ABI 1.2 or newer')
  }
  const readJson = (value: number): unknown => JSON.parse(readText(wasm.opa_json_dump(value)))
  const hostBuiltins = Object.keys(readJson(wasm.builtins()) as object)
  if (hostBuiltins.length > 0 && !options.allowHostBuiltins) {
    throw new Error(`the module needs built-ins that are not available: ${hostBuiltins.sort().join(', ')}`)
  }
  const entrypoints = new Map(Object.entries(readJson(wasm.entrypoints()) as Record<string, number>))

  const write = (text: string): { address: number; length: number } => {
    // UTF-8 takes at most three bytes for a UTF-16 unit; a short text is not worth counting first.
    const capacity = text.length < 65_536 ? text.length * 3 : Buffer.byteLength(text)
    const address = wasm.opa_malloc(capacity)
    const { written } = encoder.encodeInto(text, new Uint8Array(memory.buffer, address, capacity))
    return { address, length: written }
  }
  const raw = write(options.data ?? '{}')
  const data = wasm.opa_json_parse(raw.address, raw.length)
  if (data === 0) throw new Error('the data of the bundle is not JSON')
  const baseHeap = wasm.opa_heap_ptr_get()

  let dead = false
  let argument = { entrypoint: 0, input: '' }
  let result: number | undefined
  let isInputRead = false
  const call = (): void => {
    wasm.opa_heap_ptr_set(baseHeap)
    const { address, length } = write(argument.input)
    const value = wasm.opa_json_parse(address, length)
    // The one-call opa_eval would go on without input, and a rule without input denies nothing.
    if (value === 0) throw new WasmFault('input', 'not JSON')
    isInputRead = true
    const context = wasm.opa_eval_ctx_new()
    wasm.opa_eval_ctx_set_input(context, value)
    wasm.opa_eval_ctx_set_data(context, data)
    wasm.opa_eval_ctx_set_entrypoint(context, argument.entrypoint)
    if (wasm.eval(context) !== 0) throw new WasmFault('abort', 'evaluation failed')
    result = wasm.opa_json_dump(wasm.opa_eval_ctx_get_result(context))
  }
  return {
    entrypoints,
    hostBuiltins,
    get memoryBytes() {
      return memory.buffer.byteLength
    },
    evaluate(entrypoint, input, timeoutMs) {
      if (dead) throw new Error('evaluate() after a fault')
      argument = { entrypoint, input }
      result = undefined
      isInputRead = false
      watchdog.call = call
      try {
        invoke.runInContext(watchdog, { timeout: timeoutMs })
        const text = readText(result!)
        if (text.length > MAX_RESULT_LENGTH) throw new WasmFault('output', 'the result is too large')
        return (JSON.parse(text) as { result: unknown }[])[0]?.result
      } catch (error) {
        dead = true
        const fault = toFault(error, timeoutMs)
        throw isInputRead ? fault : new WasmFault('input', `the input cannot be read: ${fault.message}`, fault)
      } finally {
        watchdog.call = undefined
        argument = { entrypoint: 0, input: '' }
      }
    },
  }
}

/**
 * A module says how many pages its constants need, but JavaScript cannot read that; some 60 KB of constants a hundred rules. Throws
 * LinkError or RuntimeError where the maximum is too little.
 */
function instantiate(
  module: WasmModule,
  env: Readonly<Record<string, unknown>>,
  maximum: number,
): { memory: WasmMemory; exports: unknown } {
  for (let initial = 5; ; initial = Math.min(maximum, initial * 4)) {
    const memory = new webAssembly.Memory({ initial, maximum })
    try {
      return { memory, exports: new webAssembly.Instance(module, { env: { ...env, memory } }).exports }
    } catch (error) {
      // RuntimeError: more pages than it says, as OPA 1.22 leaves its table of functions out.
      const isTooSmall = error instanceof webAssembly.LinkError || error instanceof webAssembly.RuntimeError
      if (!isTooSmall || initial >= maximum) throw error
    }
  }
}

function toFault(error: unknown, timeoutMs: number): WasmFault {
  if (error instanceof WasmFault) return error
  const code = (error as { code?: unknown } | null)?.code
  if (code === 'ERR_SCRIPT_EXECUTION_TIMEOUT') return new WasmFault('timeout', `not done after ${timeoutMs} ms`, error)
  const message = error instanceof Error ? error.message : 'unknown'
  return new WasmFault('trap', message, error)
}
