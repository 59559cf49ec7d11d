/** The part of the global `WebAssembly` that the engine uses; its types are in TypeScript's DOM library, which a server has not. */
export interface WasmMemory {
  readonly buffer: ArrayBuffer
}
export interface WasmModule {
  readonly [Symbol.toStringTag]: string
}
interface WebAssemblyApi {
  Memory: new (limits: { initial: number; maximum: number }) => WasmMemory
  Instance: new (module: WasmModule, imports: Record<string, Record<string, unknown>>) => { exports: object }
  LinkError: new (...args: never[]) => Error
  RuntimeError: new (...args: never[]) => Error
  compile(bytes: Uint8Array): Promise<WasmModule>
}

export const webAssembly = (globalThis as unknown as { WebAssembly: WebAssemblyApi }).WebAssembly
