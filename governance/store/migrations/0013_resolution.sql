-- What proxies refuse until a person lets it: by the violation that it is for. Two violations of one agent are two rows, so that resolving
-- one of them does not lift what is still held by the other.
CREATE TABLE proxy_blocks (
  tenant       text           NOT NULL,
  id           uuid           NOT NULL,
  violation_id uuid           NOT NULL,
  kind         text           NOT NULL CHECK (kind IN ('agent', 'route')),
  -- What the agent is called, or the route's template and method ('': any).
  value        text           NOT NULL,
  method       text           NOT NULL DEFAULT '',
  expires_at   timestamptz(3) NOT NULL,
  lifted_at    timestamptz(3),
  lifted_by    text,
  lift_comment text           NOT NULL DEFAULT '',
  created_at   timestamptz(3) NOT NULL DEFAULT now(),
  PRIMARY KEY (tenant, id),
  FOREIGN KEY (tenant, violation_id) REFERENCES compliance_violations,
  CHECK ((lifted_at IS NULL) = (lifted_by IS NULL))
);
CREATE UNIQUE INDEX proxy_blocks_held ON proxy_blocks (tenant, violation_id, kind, value, method) WHERE lifted_at IS NULL;
CREATE INDEX proxy_blocks_in_force ON proxy_blocks (tenant, expires_at) WHERE lifted_at IS NULL;
CREATE INDEX proxy_blocks_newest ON proxy_blocks (tenant, created_at DESC, id DESC);
SELECT fence('proxy_blocks');
GRANT SELECT, INSERT, UPDATE ON proxy_blocks TO signet_governance;

-- What it takes to undo a try; null: it changed nothing, or nothing that can be undone. `waiting`: it did its part, now it is for people.
ALTER TABLE resolution_attempts
  ADD COLUMN undo jsonb,
  ADD COLUMN undone_at timestamptz(3),
  ADD COLUMN undone_by text,
  DROP CONSTRAINT resolution_attempts_outcome_check,
  ADD CONSTRAINT resolution_attempts_outcome_check
    CHECK (outcome IN ('resolved', 'contained', 'not_resolved', 'failed', 'would_act', 'waiting'));
GRANT UPDATE (undone_at, undone_by) ON resolution_attempts TO signet_governance;

-- The tenant's own choice of strategies ({rule: strategy}), and whether proxies hold back an endpoint that differs from its contract.
ALTER TABLE resolution_settings
  ADD COLUMN strategies jsonb NOT NULL DEFAULT '{}',
  ADD COLUMN block_endpoints boolean NOT NULL DEFAULT false;

-- Signet itself begins workflows: about a draft of a policy, which cannot come into force before it is approved, and repairs.
ALTER TABLE workflows
  ADD COLUMN policy_id uuid,
  ADD COLUMN policy_version integer,
  DROP CONSTRAINT workflows_kind_check,
  ADD CONSTRAINT workflows_kind_check CHECK (kind IN ('review', 'release', 'policy')),
  DROP CONSTRAINT workflows_requester_kind_check,
  ADD CONSTRAINT workflows_requester_kind_check CHECK (requester_kind IN ('user', 'service_account', 'system')),
  ADD CONSTRAINT workflows_policy_check CHECK ((kind = 'policy') = (policy_id IS NOT NULL AND policy_version IS NOT NULL)),
  ADD CONSTRAINT workflows_policy_fkey FOREIGN KEY (tenant, policy_id, policy_version) REFERENCES policy_versions;
CREATE INDEX workflows_of_policy ON workflows (tenant, policy_id, policy_version) WHERE kind = 'policy';
CREATE INDEX workflows_of_system ON workflows (tenant, name) WHERE requester_kind = 'system';
-- What happened lately, for trying a draft on.
CREATE INDEX compliance_violations_of_event ON compliance_violations (tenant, event_id);
CREATE INDEX compliance_violations_of_rule ON compliance_violations (tenant, rule, created_at DESC);
