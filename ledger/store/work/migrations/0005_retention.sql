-- Retention policies that came through the API, and which process purges. Each change of a policy is in its tenant's chain.
CREATE TABLE retention_policies (
  tenant     text        NOT NULL,
  name       text        NOT NULL,
  -- As RetentionPolicySpec (core/rule/retention.ts).
  spec       jsonb       NOT NULL,
  updated_at timestamptz NOT NULL,
  updated_by text        NOT NULL,
  PRIMARY KEY (tenant, name)
);

-- Which state of which of the platform's policies is in which tenant's chain.
CREATE TABLE retention_followed (
  tenant text NOT NULL,
  policy text NOT NULL,
  print  text NOT NULL,
  PRIMARY KEY (tenant, policy)
);

CREATE TABLE retention_duty (
  one           boolean PRIMARY KEY DEFAULT true CHECK (one),
  claimed_by    uuid,
  claimed_until timestamptz
);
INSERT INTO retention_duty DEFAULT VALUES;

GRANT SELECT, INSERT, UPDATE, DELETE ON retention_policies, retention_followed TO signet_ledger;
GRANT SELECT, UPDATE ON retention_duty TO signet_ledger;
