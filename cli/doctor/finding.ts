/** What a finding is about; `docs/troubleshoot.md` has a section for each. */
export const CHECKS = [
  'installation',
  'not-injected',
  'stale-injection',
  'weak-capture',
  'numeric-target-port',
  'sidecar-not-ready',
  'bundle-not-current',
  'rule-not-in-force',
  'webhook-ca',
  'certificate-expiry',
] as const
export type Check = (typeof CHECKS)[number]

/** `error`: something is not as Signet promises. `warning`: it will not be for long, or should be looked at. */
export type Finding = {
  readonly check: Check
  readonly severity: 'error' | 'warning'
  /** Empty for what belongs to no namespace. */
  readonly namespace: string
  /** `pod/api-0`, `service/api`, … */
  readonly object: string
  readonly message: string
  /** What to do, a command where there is one. */
  readonly fix?: string
}
