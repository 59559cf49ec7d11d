import { createHash } from 'node:crypto'
import type { Logger } from 'pino'
import type { RuleMode } from '#core/policy/manifest.ts'
import type { Evaluator } from '#engine/evaluate/evaluator.ts'
import { parsePolicyData, type BundledData, type PolicyData } from './data.ts'
import { NO_LABELS, parseLabels, type WorkloadLabels } from './labels.ts'
import { createPolicy, type Policy } from './policy.ts'

const NOTHING_BUNDLED: BundledData = { approvals: [], blocks: [] }

/**
 * Holds the policy in force. New rules or new data make a new `Policy` in one assignment; exchanges under way keep theirs.
 * A faulty file or bundle changes nothing: what was in force stays, loudly.
 */
export class PolicyHolder {
  #evaluator: Evaluator | null = null
  #data: PolicyData = { version: 1 }
  #dataDigest = 'none'
  #bundled: BundledData = NOTHING_BUNDLED
  #labels: WorkloadLabels = NO_LABELS
  #labelsDigest = 'none'
  #policy: Policy | null = null
  readonly #defaultMode: RuleMode
  readonly #log: Logger

  constructor(defaultMode: RuleMode, log: Logger) {
    this.#defaultMode = defaultMode
    this.#log = log
  }

  /** The policy in force, or null before the first bundle is loaded: nothing may be answered then. */
  get current(): Policy | null {
    return this.#policy
  }

  /** `bundled`: what came with the rules, besides the policy data. */
  useEvaluator(evaluator: Evaluator, bundled: BundledData = NOTHING_BUNDLED): void {
    this.#bundled = bundled
    // The previous one is not closed: exchanges that await their upstream still judge with it. The last of them lets go of it.
    this.#evaluator = evaluator
    this.#rebuild()
  }

  /** Throws POLICY_DATA_INVALID and keeps what was in force. */
  useData(text: string): void {
    const digest = createHash('sha256').update(text).digest('hex')
    if (digest === this.#dataDigest) return
    this.#data = parsePolicyData(text)
    this.#dataDigest = digest
    this.#rebuild()
    this.#log.info({ event: 'policy_data_loaded', digest }, 'policy data in force')
  }

  /** The pod's labels, as the downward API writes them. Throws CONFIG_INVALID and keeps what was in force. */
  useLabels(text: string): void {
    const digest = createHash('sha256').update(text).digest('hex')
    if (digest === this.#labelsDigest) return
    this.#labels = parseLabels(text)
    this.#labelsDigest = digest
    this.#rebuild()
    this.#log.info({ event: 'workload_labels_loaded', digest }, 'labels of the pod in force')
  }

  #rebuild(): void {
    if (this.#evaluator !== null) {
      // Labels, too, decide what is let out: with them the entity tags change.
      const digest = this.#labels === NO_LABELS ? this.#dataDigest : `${this.#dataDigest} ${this.#labelsDigest}`
      const approvals = [...(this.#data.approvals ?? []), ...this.#bundled.approvals]
      const blocks = [...(this.#data.blocks ?? []), ...this.#bundled.blocks]
      const data = { ...this.#data, approvals, blocks }
      this.#policy = createPolicy(this.#evaluator, data, digest, this.#defaultMode, this.#labels)
    }
  }
}
