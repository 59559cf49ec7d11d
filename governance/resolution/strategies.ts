export const STRATEGIES = [
  'permission-reset',
  'billing-sync-fix',
  'auto-correction',
  'workflow-repair',
  'DeepAgent-regenerate-policy',
  'MAOS-action-block',
] as const
export type Strategy = (typeof STRATEGIES)[number]
/** A tenant's own choice, by rule. */
export type ChosenStrategies = Readonly<Record<string, Strategy>>

const ABOUT_SOMEBODY: readonly Strategy[] = ['permission-reset', 'DeepAgent-regenerate-policy', 'MAOS-action-block']
const ABOUT_BILLING: readonly Strategy[] = ['billing-sync-fix', 'auto-correction']

/** What each rule's violations may be resolved by; the first is what is done where the tenant says nothing. */
const BY_RULE: Readonly<Record<string, readonly Strategy[]>> = {
  unauthorized_model_usage: [...ABOUT_SOMEBODY, 'auto-correction'],
  unusual_client_data_activity: ABOUT_SOMEBODY,
  invalid_token_flow: [...ABOUT_BILLING, ...ABOUT_SOMEBODY],
  voice_usage_without_budget: [...ABOUT_BILLING, ...ABOUT_SOMEBODY],
  stripe_event_mismatch: ABOUT_BILLING,
  tier_policy_violation: ['auto-correction', ...ABOUT_SOMEBODY],
  api_endpoint_integrity: ['workflow-repair'],
  // CRITICAL: contained at once, whatever else; a person closes.
  maos_supervision_bypass: ['MAOS-action-block'],
}
const UNMAPPED: readonly Strategy[] = ['auto-correction']

/** How violations of a rule are resolved: what is not mapped, by auto-correction. */
export function strategyOf(rule: string, chosen: ChosenStrategies): Strategy {
  const possible = strategiesOf(rule)
  // A choice that a later release does not allow any more counts for nothing.
  return possible.find((strategy) => strategy === chosen[rule]) ?? possible[0] ?? 'auto-correction'
}

export function strategiesOf(rule: string): readonly Strategy[] {
  return Object.hasOwn(BY_RULE, rule) ? (BY_RULE[rule] ?? UNMAPPED) : UNMAPPED
}

export const RULES_WITH_STRATEGIES: readonly string[] = Object.keys(BY_RULE)
