import type { PatchOperation } from './patch.ts'

/** RFC 6902 as far as `patchBetween` uses it, written on its own. Does not change `document`. */
export function applyPatch(document: unknown, patch: readonly PatchOperation[]): unknown {
  let root: unknown = structuredClone(document)
  for (const operation of patch) {
    const tokens = operation.path
      .split('/')
      .slice(1)
      .map((token) => token.replaceAll('~1', '/').replaceAll('~0', '~'))
    const last = tokens.pop()
    const value = 'value' in operation ? structuredClone(operation.value) : undefined
    if (last === undefined) {
      root = value
      continue
    }
    const parent = tokens.reduce<unknown>((node, token) => (node as Record<string, unknown>)[token], root)
    if (Array.isArray(parent)) {
      const index = Number(last)
      if (index > parent.length) throw new Error(`${operation.path} is beyond the end`)
      if (operation.op === 'add') parent.splice(index, 0, value)
      else if (operation.op === 'remove') parent.splice(index, 1)
      else parent[index] = value
    } else {
      const object = parent as Record<string, unknown>
      if (operation.op !== 'add' && !Object.hasOwn(object, last)) throw new Error(`${operation.path} is not there`)
      if (operation.op === 'remove') delete object[last]
      else Object.defineProperty(object, last, { value, enumerable: true, configurable: true, writable: true })
    }
  }
  return root
}
