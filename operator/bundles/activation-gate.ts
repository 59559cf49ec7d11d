import { createHash } from 'node:crypto'
import { LRUCache } from 'lru-cache'
import { SignetError } from '#core/error/signet-error.ts'
import type { BundleModule } from '#engine/bundle/build.ts'
import type { CompiledRules } from '#engine/compile/rule-set.ts'
import { moduleBytes } from './modules.ts'

/** A module as the compiler gives it: with the Rego that it came from, which the bundle does not hold. */
export type CandidateModule = BundleModule & Partial<Pick<CompiledRules, 'sources'>>

/** Whether a module may be published. */
export type ActivationGate = {
  /** Null where it may; else why not. Rejects only with what is worth a retry. */
  check(module: CandidateModule): Promise<SignetError | null>
}

/** A refusal is looked at again after so long: it may have been for want of time. */
const REFUSAL_TTL_MS = 60_000

/**
 * Asks `compare` (the differential check: the same decisions in wasm and in OPA on the shipped samples) once for each module,
 * and remembers the answer; the root module of all namespaces is compared once. What says nothing about the module (OPA could not
 * be run) is not remembered.
 */
export function createActivationGate(options: {
  /** Throws SignetError when the decisions differ, or cannot be made. */
  compare: (module: CandidateModule) => Promise<void>
  maxEntries?: number
}): ActivationGate {
  const known = new LRUCache<string, Promise<SignetError | null>>({ max: options.maxEntries ?? 1_000 })

  async function ask(key: string, module: CandidateModule): Promise<SignetError | null> {
    try {
      await options.compare(module)
      return null
    } catch (error) {
      known.delete(key)
      if (!(error instanceof SignetError)) throw error
      if (error.code !== 'OPA_UNAVAILABLE') known.set(key, Promise.resolve(error), { ttl: REFUSAL_TTL_MS })
      return error
    }
  }

  return {
    check(module) {
      const key = createHash('sha256').update(moduleBytes(module)).digest('hex')
      const found = known.get(key)
      if (found !== undefined) return found
      const asked = ask(key, module)
      known.set(key, asked)
      return asked
    },
  }
}
