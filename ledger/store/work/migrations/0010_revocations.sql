-- Whom a tenant shut out: a token by its SHA-256, a producer, a service account. Asked by each replica at least once a second for who calls it: what stands here holds everywhere by then.
CREATE TABLE revocations (
  tenant      text           NOT NULL,
  -- Version 7: in the order of time.
  id          uuid           NOT NULL,
  kind        text           NOT NULL CHECK (kind IN ('token', 'producer', 'service_account')),
  target      text           NOT NULL,
  reason      text           NOT NULL,
  revoked_by  text           NOT NULL,
  revoked_at  timestamptz(3) NOT NULL,
  -- When it was in the chain; null until then.
  recorded_at timestamptz(3),
  lifted_by   text,
  lift_reason text,
  lifted_at   timestamptz(3),
  PRIMARY KEY (tenant, id)
);
CREATE UNIQUE INDEX revocations_standing ON revocations (tenant, kind, target) WHERE lifted_at IS NULL;
CREATE INDEX revocations_unrecorded ON revocations (revoked_at) WHERE recorded_at IS NULL;
CREATE INDEX revocations_lifted ON revocations (lifted_at) WHERE lifted_at IS NOT NULL;
GRANT SELECT, INSERT, UPDATE, DELETE ON revocations TO signet_ledger;
