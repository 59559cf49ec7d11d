const MAX_DEPTH = 32

/**
 * Why a caller's JSON cannot be kept and written again, or null: PostgreSQL keeps no U+0000 and no half of a surrogate pair, and what JSON.parse reads
 * may be nested more deeply than JSON.stringify can follow.
 */
export function unstorable(value: unknown): string | null {
  let level: unknown[] = [value]
  for (let depth = 0; level.length > 0; depth++) {
    if (depth > MAX_DEPTH) return `is nested more than ${MAX_DEPTH} levels deep`
    const next: unknown[] = []
    for (const each of level) {
      if (typeof each === 'string') {
        const fault = faultOf(each)
        if (fault !== null) return fault
      } else if (Array.isArray(each)) {
        for (const inner of each as unknown[]) next.push(inner)
      } else if (typeof each === 'object' && each !== null) {
        for (const [name, inner] of Object.entries(each)) {
          const fault = faultOf(name)
          if (fault !== null) return fault
          next.push(inner)
        }
      }
    }
    level = next
  }
  return null
}

function faultOf(text: string): string | null {
  if (!text.isWellFormed()) return 'holds half of a surrogate pair, which is no Unicode text'
  if (text.includes('\0')) return 'holds the character U+0000, which cannot be kept'
  return null
}
