/** Checks that controls can name; `checks.ts` has what each looks at. */
export const CHECK_NAMES = [
  'roles-in-force',
  'accounts-in-use',
  'administrators-few',
  'actions-recorded',
  'ledger-verifies',
  'ledger-over-tls',
  'sign-ins-guarded',
  'mfa-in-use',
  'tokens-expire',
] as const
export type CheckName = (typeof CHECK_NAMES)[number]
