import type { Subject } from '#core/seal/event.ts'

type Kept = Subject & { readonly checkedAt: number }

/**
 * Subjects by tenant and name, so that a batch asks the work database about few of them. Bounded in number and in time: a name is in
 * memory for `maxAgeMs` after it was last looked up, and its key counts as fresh for `freshMs`.
 */
export class SubjectCache {
  // In the order of the last look-up: the oldest first.
  readonly #kept = new Map<string, Kept>()
  readonly #maxSubjects: number
  readonly #freshMs: number
  readonly #maxAgeMs: number
  readonly #now: () => number
  /** No later than the oldest was looked up. The first of a Map that others were deleted from is found by going through their places. */
  #oldestAt = Infinity

  /** `now`: monotonic milliseconds. */
  constructor(options: { maxSubjects: number; freshMs: number; maxAgeMs: number; now: () => number }) {
    this.#maxSubjects = options.maxSubjects
    this.#freshMs = options.freshMs
    this.#maxAgeMs = options.maxAgeMs
    this.#now = options.now
  }

  get size(): number {
    return this.#kept.size
  }

  /** A subject that was looked up within `freshMs`. */
  fresh(tenant: string, name: string): Subject | undefined {
    const kept = this.#kept.get(keyOf(tenant, name))
    return kept !== undefined && this.#now() - kept.checkedAt <= this.#freshMs ? kept : undefined
  }

  /** One that was looked up within `maxAgeMs`: for while nobody can be asked. */
  stale(tenant: string, name: string): Subject | undefined {
    const kept = this.#kept.get(keyOf(tenant, name))
    return kept !== undefined && this.#now() - kept.checkedAt <= this.#maxAgeMs ? kept : undefined
  }

  keep(tenant: string, name: string, { subjectId, key }: Subject): void {
    const now = this.#now()
    const place = keyOf(tenant, name)
    this.#kept.delete(place)
    this.#kept.set(place, { subjectId, key, checkedAt: now })
    this.#oldestAt = Math.min(this.#oldestAt, now)
    if (this.#kept.size > this.#maxSubjects || now - this.#oldestAt > this.#maxAgeMs) this.sweep()
  }

  forget(tenant: string, subjectId: string): void {
    for (const [place, kept] of this.#kept)
      if (kept.subjectId === subjectId && place.startsWith(keyOf(tenant, ''))) this.#kept.delete(place)
  }

  /** Lets go of what has not been looked up for long, and of what is too much. */
  sweep(): void {
    const now = this.#now()
    this.#oldestAt = Infinity
    for (const [oldest, kept] of this.#kept) {
      if (this.#kept.size <= this.#maxSubjects && now - kept.checkedAt <= this.#maxAgeMs) {
        this.#oldestAt = kept.checkedAt
        break
      }
      this.#kept.delete(oldest)
    }
  }
}

// A tenant's name holds no line feed (`runtime/identity`): white space is refused there.
function keyOf(tenant: string, name: string): string {
  return `${tenant.length}:${tenant}\n${name}`
}
