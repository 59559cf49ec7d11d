/** Whether one dotted path is the other, or above or below it; `""` is above all. */
export function pathsMeet(a: string, b: string): boolean {
  if (a === '' || b === '' || a === b) return true
  return a.length < b.length ? b.startsWith(`${a}.`) : a.startsWith(`${b}.`)
}

/** Sorted, without those that another one covers. */
export function reducePaths(paths: Iterable<string>): string[] {
  const all = new Set(paths)
  if (all.has('')) return ['']
  const isCovered = (path: string): boolean => {
    for (let dot = path.indexOf('.'); dot !== -1; dot = path.indexOf('.', dot + 1)) {
      if (all.has(path.slice(0, dot))) return true
    }
    return false
  }
  return [...all].filter((path) => !isCovered(path)).sort()
}
