/** Bundle data that rules may read: `data.policy`. */
export const POLICY_DATA = 'policy'

/** Where the packages of a scope live in the module: `root`, or `ns_NAME` for `namespace/NAME` (`-` as `_`). */
export function scopePackage(scope: string): string {
  return scope === 'root' ? 'root' : `ns_${scope.slice('namespace/'.length).replaceAll('-', '_')}`
}

/** The file of a bundle that its signature is in; the only one that is not signed. */
export const SIGNATURES = '.signatures.json'

/**
 * Bytes of wasm that a module may have. A namespace's own are few on purpose: whatever its authors write, root and own together
 * stay below what proxies take (`load.ts`), so that nobody's rules can keep the platform's out.
 */
export function maxWasmBytes(scope: string): number {
  return scope === 'root' ? 40 << 20 : 6 << 20
}
