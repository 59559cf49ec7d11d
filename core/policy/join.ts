import {
  APPROVAL_STATUSES,
  CLASSIFICATIONS,
  type ApprovalStatus,
  type Canonicalization,
  type Classification,
  type Channel,
} from '../stamp/schema.ts'
import type { RuleOutcome, Violation } from './decision.ts'
import type { CompiledRule, RuleMode } from './manifest.ts'

/** What all rules together say of one response. `violations` refuse it; `shadow` would have, in `enforce`. */
export type Judgement = {
  readonly violations: readonly Violation[]
  readonly shadow: readonly Violation[]
  readonly undecidable: readonly { rule: string; reason: string; refused: boolean }[]
  readonly classification: Classification
  /** Never empty; `NONE` where no rule names a regulation. Sorted. */
  readonly regulations: readonly string[]
  readonly approvalStatus: ApprovalStatus
  readonly canonicalization: Canonicalization
  /** Rules that refuse because an approval is missing: counted as `approval_blocked`. */
  readonly approvalBlockedBy: readonly string[]
}

type Stated = {
  readonly classification?: Classification | undefined
  readonly approvalStatus?: ApprovalStatus | undefined
}

/** Where no rule classifies: not public, since nobody said that it may be. */
const UNSTATED_CLASSIFICATION: Classification = 'internal'
const UNSTATED_APPROVAL: ApprovalStatus = 'draft'
/** From lax to strict. */
export const APPROVAL_STRICTNESS: readonly ApprovalStatus[] = [
  'approved',
  'pending-approval',
  'draft',
  'rejected',
] satisfies readonly (typeof APPROVAL_STATUSES)[number][]

function stricter<T extends string>(order: readonly T[], a: T | undefined, b: T | undefined): T | undefined {
  if (a === undefined) return b
  if (b === undefined) return a
  return order.indexOf(a) >= order.indexOf(b) ? a : b
}

/**
 * Joins the outcomes of all rules: highest classification, union of regulations, strictest approval status. A rule's mode
 * governs only its own violations and obligations: `off` counts for nothing, `shadow` is reported and changes nothing.
 * A rule of a namespace (its id is `NAMESPACE/id`) only tightens: what it says is joined with what holds where no root rule says anything.
 * A rule without an outcome counts as undecidable; an undecidable rule refuses where it is closed for the channel.
 * `modeOf` gives the mode in force for a rule (tenant overrides and percentages already applied).
 */
export function joinOutcomes(
  rules: readonly CompiledRule[],
  outcomes: readonly RuleOutcome[],
  channel: Channel,
  modeOf: (rule: CompiledRule) => RuleMode,
): Judgement {
  const byRule = new Map(outcomes.map((outcome) => [outcome.rule, outcome]))
  const violations: Violation[] = []
  const shadow: Violation[] = []
  const undecidable: { rule: string; reason: string; refused: boolean }[] = []
  const approvalBlockedBy: string[] = []
  const regulations = new Set<string>()
  const stated: Record<'root' | 'own', Stated> = {
    root: {},
    own: {},
  }
  let canonicalization: Canonicalization = 'bytes'

  for (const rule of rules) {
    const mode = modeOf(rule)
    if (mode === 'off') continue
    const target = mode === 'enforce' ? violations : shadow
    const outcome = byRule.get(rule.id)
    if (outcome === undefined || 'undecidable' in outcome) {
      const reason = outcome?.undecidable ?? 'the rule gave no answer'
      const closed = rule.undecidable[channel] === 'closed'
      undecidable.push({ rule: rule.id, reason, refused: closed && mode === 'enforce' })
      if (closed) target.push(undecidableViolation(rule, reason))
      continue
    }
    const { decision } = outcome
    for (const violation of decision.violations) target.push({ rule: rule.id, ...violation })
    if (mode !== 'enforce') continue
    if (decision.violations.length > 0 && (decision.approval_status ?? 'approved') !== 'approved') {
      approvalBlockedBy.push(rule.id)
    }
    const scope = rule.id.includes('/') ? 'own' : 'root'
    const { classification, approvalStatus } = stated[scope]
    stated[scope] = {
      classification: stricter(CLASSIFICATIONS, classification, decision.classification),
      approvalStatus: stricter(APPROVAL_STRICTNESS, approvalStatus, decision.approval_status),
    }
    for (const regulation of decision.regulations ?? []) regulations.add(regulation)
    if (decision.canonicalization === 'jcs') canonicalization = 'jcs'
  }

  if (regulations.size > 1) regulations.delete('NONE')
  const { root, own } = stated
  return {
    violations,
    shadow,
    undecidable,
    classification:
      stricter(CLASSIFICATIONS, root.classification ?? UNSTATED_CLASSIFICATION, own.classification) ??
      UNSTATED_CLASSIFICATION,
    regulations: regulations.size === 0 ? ['NONE'] : [...regulations].sort(),
    approvalStatus:
      stricter(APPROVAL_STRICTNESS, root.approvalStatus ?? UNSTATED_APPROVAL, own.approvalStatus) ?? UNSTATED_APPROVAL,
    canonicalization,
    approvalBlockedBy,
  }
}

function undecidableViolation(rule: CompiledRule, reason: string): Violation {
  return {
    rule: rule.id,
    severity: rule.severity,
    message: `The rule «${rule.title}» could not be judged: ${reason}`,
    remediation: {
      hint: 'Send a body that the rule can read (well-formed, UTF-8, of the declared content type, within the buffer), or let the rule pass what it cannot judge on this channel (undecidable: open).',
    },
    frameworks: rule.frameworks,
  }
}
