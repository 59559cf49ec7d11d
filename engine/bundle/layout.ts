/** Bundle data that rules may read: `data.policy`. */
export const POLICY_DATA = 'policy'

/** Where the packages of a scope live in the module: `root`, or `ns_NAME` for `namespace/NAME` (`-` as `_`). */
export function scopePackage(scope: string): string {
  return scope === 'root' ? 'root' : `ns_${scope.slice('namespace/'.length).replaceAll('-', '_')}`
}

/** The file of a bundle that its signature is in; the only one that is not signed. */
export const SIGNATURES = '.signatures.json'
