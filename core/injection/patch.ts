/** One operation of a JSON Patch (RFC 6902). */
export type PatchOperation =
  | { readonly op: 'add' | 'replace'; readonly path: string; readonly value: unknown }
  | { readonly op: 'remove'; readonly path: string }

/**
 * The operations that turn `before` into `after`, both JSON values. Members that stay are not touched; of arrays, what stands at the
 * same place from either end stays, and the rest is removed and added.
 */
export function patchBetween(before: unknown, after: unknown, path = ''): PatchOperation[] {
  if (before === after) return []
  if (Array.isArray(before) && Array.isArray(after)) return arrayPatch(before, after, path)
  if (isObject(before) && isObject(after)) return objectPatch(before, after, path)
  return [{ op: 'replace', path, value: after }]
}

function objectPatch(before: JsonObject, after: JsonObject, path: string): PatchOperation[] {
  const operations: PatchOperation[] = []
  for (const name of Object.keys(before)) {
    const place = `${path}/${escape(name)}`
    if (!has(after, name)) operations.push({ op: 'remove', path: place })
    else operations.push(...patchBetween(before[name], after[name], place))
  }
  for (const name of Object.keys(after)) {
    if (!has(before, name)) operations.push({ op: 'add', path: `${path}/${escape(name)}`, value: after[name] })
  }
  return operations
}

function arrayPatch(before: readonly unknown[], after: readonly unknown[], path: string): PatchOperation[] {
  // The same length: most likely changed in place (a container's probe), which an element-wise patch says best.
  if (before.length === after.length && before.every((item, index) => sameName(item, after[index])))
    return before.flatMap((item, index) => patchBetween(item, after[index], `${path}/${index}`))
  let start = 0
  while (start < before.length && start < after.length && same(before[start], after[start])) start++
  let end = 0
  while (
    end < before.length - start &&
    end < after.length - start &&
    same(before[before.length - 1 - end], after[after.length - 1 - end])
  )
    end++
  const operations: PatchOperation[] = []
  // From the back, so that the places of what is yet to go stay true.
  for (let index = before.length - end - 1; index >= start; index--)
    operations.push({ op: 'remove', path: `${path}/${index}` })
  for (let index = start; index < after.length - end; index++)
    operations.push({ op: 'add', path: `${path}/${index}`, value: after[index] })
  return operations
}

type JsonObject = Readonly<Record<string, unknown>>

function isObject(value: unknown): value is JsonObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

function has(object: JsonObject, name: string): boolean {
  return Object.hasOwn(object, name)
}

function sameName(a: unknown, b: unknown): boolean {
  return isObject(a) && isObject(b) ? a['name'] === b['name'] : true
}

function same(a: unknown, b: unknown): boolean {
  return patchBetween(a, b).length === 0
}

/** RFC 6901, section 3. */
function escape(name: string): string {
  return name.replaceAll('~', '~0').replaceAll('/', '~1')
}
