const MAX_DEPTH = 32

/**
 * Where and why a caller's JSON cannot be kept and written again, `at /a/0 holds …`, or null: PostgreSQL keeps no U+0000 and no half of a surrogate
 * pair, and what JSON.parse reads may be nested more deeply than JSON.stringify can follow.
 */
export function unstorable(value: unknown): string | null {
  let level: (readonly [value: unknown, at: string])[] = [[value, '']]
  for (let depth = 0; level.length > 0; depth++) {
    if (depth > MAX_DEPTH) return `is nested more than ${MAX_DEPTH} levels deep`
    const next: (readonly [unknown, string])[] = []
    for (const [each, at] of level) {
      if (typeof each === 'string') {
        const fault = faultOf(each)
        if (fault !== null) return at === '' ? fault : `at ${at} ${fault}`
      } else if (Array.isArray(each)) {
        for (const [index, inner] of (each as unknown[]).entries()) next.push([inner, `${at}/${index}`])
      } else if (typeof each === 'object' && each !== null) {
        for (const [name, inner] of Object.entries(each)) {
          // The name itself is not repeated: it is what cannot be written.
          const fault = faultOf(name)
          if (fault !== null) return `has a member${at === '' ? '' : ` at ${at}`} whose name ${fault}`
          next.push([inner, `${at}/${name.slice(0, 100)}`])
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
