export const STRATEGIES = [
  'permission-reset',
  'billing-sync-fix',
  'auto-correction',
  'workflow-repair',
  'MAOS-action-block',
] as const
export type Strategy = (typeof STRATEGIES)[number]

const BY_RULE: Readonly<Record<string, Strategy>> = {
  unauthorized_model_usage: 'permission-reset',
  unusual_client_data_activity: 'permission-reset',
  invalid_token_flow: 'billing-sync-fix',
  voice_usage_without_budget: 'billing-sync-fix',
  stripe_event_mismatch: 'billing-sync-fix',
  tier_policy_violation: 'auto-correction',
  api_endpoint_integrity: 'workflow-repair',
  // Contains; a person closes.
  maos_supervision_bypass: 'MAOS-action-block',
}

/** How violations of a rule are resolved: what is not mapped, by auto-correction. */
export function strategyOf(rule: string): Strategy {
  return BY_RULE[rule] ?? 'auto-correction'
}
