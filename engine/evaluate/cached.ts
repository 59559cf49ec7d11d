import { LRUCache } from 'lru-cache'
import type { DecisionInput, RuleOutcome } from '#core/policy/decision.ts'
import { isLive } from '#core/policy/manifest.ts'
import type { Evaluator } from './evaluator.ts'
import { reducePaths } from './paths.ts'

/** An evaluator that remembers. */
export interface CachedEvaluator extends Evaluator {
  /** Forgets everything: when something that rules see by other ways than `input` changed, as when an approval expires. */
  clear(): void
}

/** Keys longer than this (UTF-16 units) are not kept, so that entries bound memory. */
const MAX_KEY_LENGTH = 8_192

/**
 * Keeps the outcomes for the last `maxEntries` different inputs, as far as rules can tell them apart: by the values at the
 * union of the rules' read sets, and the undecidable paths. A hit returns the same frozen array, so that callers can keep
 * what they made of it. Where a rule reads the body nothing is kept, nor is an outcome that a fault decided.
 */
export function createCachedEvaluator(evaluator: Evaluator, options: { maxEntries: number }): CachedEvaluator {
  const shared = {
    revision: evaluator.revision,
    rules: evaluator.rules,
    reads: (path: string) => evaluator.reads(path),
    isRepeatable: (outcomes: readonly RuleOutcome[]) => evaluator.isRepeatable?.(outcomes) ?? true,
  }
  if (evaluator.reads('response.body')) {
    return {
      ...shared,
      evaluate: (input, undecidable, body) => evaluator.evaluate(input, undecidable, body),
      clear() {},
      close: () => evaluator.close(),
    }
  }
  const live = evaluator.rules.filter(isLive)
  const append = reducePaths(live.flatMap((rule) => rule.reads)).map((path) => valueAppender(path))
  const cache = new LRUCache<string, readonly RuleOutcome[]>({ max: options.maxEntries })
  return {
    ...shared,
    evaluate(input, undecidable, body) {
      let key = ''
      for (const part of append) key += part(input)
      if (undecidable.length > 0) key += JSON.stringify(undecidable)
      const hit = cache.get(key)
      if (hit !== undefined) return hit
      const outcomes = evaluator.evaluate(input, undecidable, body)
      if (key.length <= MAX_KEY_LENGTH && shared.isRepeatable(outcomes)) cache.set(key, outcomes)
      return outcomes
    },
    clear: () => cache.clear(),
    close() {
      cache.clear()
      evaluator.close()
    },
  }
}

/**
 * A function that gives the value at a path as text that says where it ends and of which type it is: keys of different
 * values are different.
 */
function valueAppender(path: string): (input: DecisionInput) => string {
  const names = path.split('.')
  return (input) => {
    let value: unknown = input
    for (const name of names) {
      if (typeof value !== 'object' || value === null || !Object.hasOwn(value, name)) return 'u;'
      value = (value as Record<string, unknown>)[name]
    }
    if (typeof value === 'string') return `s${value.length}:${value}`
    if (typeof value === 'number') return `n${value};`
    if (value === undefined) return 'u;'
    if (typeof value === 'boolean') return value ? 't;' : 'f;'
    if (value === null) return '0;'
    const text = JSON.stringify(value)
    return `j${text.length}:${text}`
  }
}
