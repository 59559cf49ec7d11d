/**
 * Every error code of Signet, in one closed table: the HTTP status it maps to and what it means.
 * `docs/reference/errors.md` lists the same codes; a test compares the two.
 * Grouped by the part that raises them. Codes are user-visible and never change their meaning.
 */
export const ERROR_CODES = {
  // core: formats
  CANONICAL_VALUE_INVALID: { status: 400, title: 'Value has no canonical JSON form' },
  JSON_INVALID: { status: 400, title: 'Not strict JSON' },
  STAMP_INVALID: { status: 400, title: 'Not a valid stamp' },
  STAMP_MISSING: { status: 404, title: 'No stamp found' },
  STAMP_PAYLOAD_MISMATCH: { status: 409, title: 'Payload differs from what was stamped' },
  STAMP_MAC_MISMATCH: { status: 409, title: 'Stamp was not made with this key, or was changed' },
  STAMP_SUBJECT_MISMATCH: { status: 409, title: 'Stamp belongs to another response' },
  STAMP_KEY_UNKNOWN: { status: 409, title: 'Signing key is not in the keyring' },
  STAMP_KEY_INVALID: { status: 409, title: 'Signing key may not sign this stamp' },
  KEYRING_INVALID: { status: 400, title: 'Not a valid keyring' },
  AUDIT_EVENT_INVALID: { status: 400, title: 'Not a valid audit event' },
  CHAIN_BROKEN: { status: 409, title: 'The hash chain does not verify' },
  // runtime
  CONFIG_INVALID: { status: 500, title: 'Configuration is invalid' },
  INTERNAL: { status: 500, title: 'Internal error' },
  REQUEST_INVALID: { status: 400, title: 'The request is invalid' },
  NOT_FOUND: { status: 404, title: 'Not found' },
  METHOD_NOT_ALLOWED: { status: 405, title: 'Method not allowed' },
  PAYLOAD_TOO_LARGE: { status: 413, title: 'Request body is too large' },
  UNAUTHENTICATED: { status: 401, title: 'Authentication required' },
  FORBIDDEN: { status: 403, title: 'Not permitted' },
  PORT_IN_USE: { status: 500, title: 'Port is already in use' },
} as const satisfies Record<string, { readonly status: number; readonly title: string }>

export type ErrorCode = keyof typeof ERROR_CODES
