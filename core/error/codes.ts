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
  TREE_PROOF_INVALID: { status: 409, title: 'The proof does not hold in this tree' },
  NOTE_INVALID: { status: 400, title: 'Not a signed note' },
  NOTE_UNTRUSTED: { status: 403, title: 'The note is not signed by a known key' },
  // engine
  RULE_INVALID: { status: 400, title: 'Rules do not compile' },
  BUNDLE_INVALID: { status: 400, title: 'Not a valid rule bundle' },
  BUNDLE_UNTRUSTED: { status: 403, title: 'Rule bundle is not signed by a trusted key, or was changed' },
  BUNDLE_SCOPE: { status: 403, title: 'Rule bundle is for another scope' },
  BUNDLE_STALE: { status: 409, title: 'Rule bundle is older than the one in force' },
  BUNDLE_EXPIRED: { status: 409, title: 'Rule bundle is not valid at this time' },
  BUNDLE_UNAVAILABLE: { status: 503, title: 'Rule bundle cannot be fetched' },
  OPA_UNAVAILABLE: { status: 503, title: 'OPA is not available' },
  // injection
  POD_INVALID: { status: 400, title: 'Not a pod that can be injected' },
  REDIRECT_FAILED: { status: 500, title: 'The packet filter of the pod cannot be set' },
  // runtime
  CONFIG_INVALID: { status: 500, title: 'Configuration is invalid' },
  INTERNAL: { status: 500, title: 'Internal error' },
  REQUEST_INVALID: { status: 400, title: 'The request is invalid' },
  NOT_FOUND: { status: 404, title: 'Not found' },
  METHOD_NOT_ALLOWED: { status: 405, title: 'Method not allowed' },
  PAYLOAD_TOO_LARGE: { status: 413, title: 'Request body is too large' },
  UNAUTHENTICATED: { status: 401, title: 'Authentication required' },
  FORBIDDEN: { status: 403, title: 'Not permitted' },
  TOO_MANY_REQUESTS: { status: 429, title: 'Too many requests' },
  IDENTITY_UNAVAILABLE: { status: 503, title: 'Identities cannot be checked at the moment' },
  PORT_IN_USE: { status: 500, title: 'Port is already in use' },
  TLS_INVALID: { status: 500, title: 'Certificate and key cannot be used' },
  // proxy
  REQUEST_HEAD_TOO_LARGE: { status: 431, title: 'Request head is too large' },
  REQUEST_TIMEOUT: { status: 408, title: 'The request did not arrive in time' },
  POLICY_DENIED: { status: 422, title: 'Policy does not let this response out' },
  POLICY_DATA_INVALID: { status: 500, title: 'Policy data is invalid' },
  PROXY_NOT_READY: { status: 503, title: 'The proxy is not ready' },
  OVERLOADED: { status: 503, title: 'Too many requests in flight' },
  UPSTREAM_UNREACHABLE: { status: 502, title: 'The service behind the proxy cannot be reached' },
  UPSTREAM_TIMEOUT: { status: 504, title: 'The service behind the proxy did not answer in time' },
  UPSTREAM_INVALID: { status: 502, title: 'The service behind the proxy gave an answer that cannot be passed on' },
  STAMP_PENDING: { status: 404, title: 'The stamp is not made yet' },
  SPOOL_UNAVAILABLE: { status: 503, title: 'The audit spool cannot take the event' },
  SPOOL_LOCKED: { status: 500, title: 'The audit spool is in use by another process' },
  LEDGER_UNREACHABLE: { status: 503, title: 'The ledger cannot be reached' },
  LEDGER_REFUSED: { status: 502, title: 'The ledger refuses what the proxy sent' },
  LEDGER_RESPONSE_INVALID: { status: 502, title: 'The ledger gave an answer that cannot be trusted' },
  LEDGER_INCONSISTENT: { status: 502, title: 'The ledger contradicts what it signed before' },
  // ledger
  EVENT_ID_CONFLICT: { status: 409, title: 'This event id is in the chain with other bytes' },
  EVENT_TYPE_RESERVED: { status: 403, title: 'Only the ledger writes events of this type' },
  SPOOL_SEQ_CONFLICT: { status: 409, title: 'This position of the session holds another event' },
  SESSION_FORBIDDEN: { status: 403, title: 'The session belongs to another producer' },
  SESSION_UNKNOWN: { status: 404, title: 'No such session' },
  EVENT_STAMP_MISMATCH: { status: 400, title: 'The stamp does not belong to this event' },
  LEDGER_KEY_UNAVAILABLE: { status: 503, title: 'The ledger has no key that is valid now' },
  IDENTITY_PROOF_INVALID: { status: 403, title: 'The proof of possession does not hold' },
  IDENTITY_REPLAYED: { status: 409, title: 'This request for an identity was used before' },
  LEDGER_BUSY: { status: 503, title: 'The ledger is busy' },
  DATABASE_UNAVAILABLE: { status: 503, title: 'The database is unavailable' },
  // operator
  KUBERNETES_UNAVAILABLE: { status: 503, title: 'The Kubernetes API cannot be reached' },
  KUBERNETES_REFUSED: { status: 502, title: 'The Kubernetes API refuses the request' },
  // embedded PostgreSQL
  POSTGRES_START_FAILED: { status: 500, title: 'Embedded PostgreSQL did not start' },
} as const satisfies Record<string, { readonly status: number; readonly title: string }>

export type ErrorCode = keyof typeof ERROR_CODES
