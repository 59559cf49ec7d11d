-- Rules over facts, scans that apply them, what they found, and what is done about it.
CREATE TABLE rules (
  tenant      text           NOT NULL REFERENCES tenants,
  id          text           NOT NULL,
  name        text           NOT NULL,
  description text           NOT NULL,
  framework   text           NOT NULL,
  severity    text           NOT NULL,
  conditions  jsonb          NOT NULL,
  -- What a failure is called elsewhere: {type, params}.
  event       jsonb          NOT NULL,
  is_active   boolean        NOT NULL,
  -- A rule of a file (a shipped pack, or the rules folder) says what the file says.
  source      text           NOT NULL CHECK (source IN ('api', 'file')),
  version     integer        NOT NULL DEFAULT 1,
  created_at  timestamptz(3) NOT NULL DEFAULT now(),
  updated_at  timestamptz(3) NOT NULL DEFAULT now(),
  PRIMARY KEY (tenant, id)
);

CREATE TABLE scans (
  tenant       text           NOT NULL REFERENCES tenants,
  id           uuid           NOT NULL,
  org_id       text           NOT NULL,
  trigger      text           NOT NULL CHECK (trigger IN ('manual', 'schedule')),
  requested_by text           NOT NULL,
  -- Null: all rules that are active.
  rule_ids     jsonb,
  -- Facts that came with the request, by name.
  given_facts  jsonb          NOT NULL DEFAULT '[]',
  -- Facts that could not be had, and why.
  problems     jsonb          NOT NULL DEFAULT '{}',
  passed       integer        NOT NULL,
  failed       integer        NOT NULL,
  started_at   timestamptz(3) NOT NULL,
  created_at   timestamptz(3) NOT NULL DEFAULT now(),
  PRIMARY KEY (tenant, id)
);
CREATE INDEX scans_newest ON scans (tenant, created_at DESC, id DESC);
CREATE INDEX scans_of_org ON scans (tenant, org_id, created_at DESC, id DESC);

CREATE TABLE scan_results (
  tenant               text           NOT NULL,
  id                   uuid           NOT NULL,
  scan_id              uuid           NOT NULL,
  org_id               text           NOT NULL,
  rule_id              text           NOT NULL,
  -- The user that the facts are of; null: they are the organisation's.
  user_id              uuid,
  finding              text           NOT NULL,
  severity             text           NOT NULL,
  compliance_framework text           NOT NULL,
  -- What the rule looked at, as it was: the evidence.
  details              jsonb          NOT NULL,
  passed               boolean        NOT NULL,
  created_at           timestamptz(3) NOT NULL DEFAULT now(),
  PRIMARY KEY (tenant, id),
  FOREIGN KEY (tenant, scan_id) REFERENCES scans
);
CREATE INDEX scan_results_of_scan ON scan_results (tenant, scan_id, created_at DESC, id DESC);

CREATE TABLE scan_schedules (
  tenant     text           NOT NULL REFERENCES tenants,
  id         uuid           NOT NULL,
  org_id     text           NOT NULL,
  cron       text           NOT NULL,
  rule_ids   jsonb,
  is_active  boolean        NOT NULL DEFAULT true,
  next_at    timestamptz(3) NOT NULL,
  last_scan  uuid,
  last_error text,
  version    integer        NOT NULL DEFAULT 1,
  created_at timestamptz(3) NOT NULL DEFAULT now(),
  updated_at timestamptz(3) NOT NULL DEFAULT now(),
  PRIMARY KEY (tenant, id)
);
CREATE INDEX scan_schedules_due ON scan_schedules (tenant, next_at) WHERE is_active;

CREATE TABLE remediation_actions (
  tenant      text           NOT NULL REFERENCES tenants,
  id          uuid           NOT NULL,
  result_id   uuid           NOT NULL,
  rule_id     text           NOT NULL,
  user_id     uuid,
  severity    text           NOT NULL,
  finding     text           NOT NULL,
  status      text           NOT NULL DEFAULT 'open' CHECK (status IN ('open', 'in_progress', 'resolved', 'closed')),
  -- Who sees to it.
  assigned_to uuid,
  verified    boolean        NOT NULL DEFAULT false,
  -- The passing result that verifies it.
  verified_by uuid,
  metadata    jsonb          NOT NULL DEFAULT '{}',
  due_at      timestamptz(3) NOT NULL,
  version     integer        NOT NULL DEFAULT 1,
  created_at  timestamptz(3) NOT NULL DEFAULT now(),
  updated_at  timestamptz(3) NOT NULL DEFAULT now(),
  PRIMARY KEY (tenant, id),
  FOREIGN KEY (tenant, result_id) REFERENCES scan_results
);
CREATE INDEX remediation_newest ON remediation_actions (tenant, created_at DESC, id DESC);
CREATE INDEX remediation_by_status ON remediation_actions (tenant, status, created_at DESC, id DESC);
CREATE INDEX remediation_by_assignee ON remediation_actions (tenant, assigned_to, created_at DESC, id DESC);
CREATE INDEX remediation_by_result ON remediation_actions (tenant, result_id);
-- What is open for a rule and a user is opened once.
CREATE UNIQUE INDEX remediation_open ON remediation_actions (tenant, rule_id, coalesce(user_id, '00000000-0000-0000-0000-000000000000'))
  WHERE status IN ('open', 'in_progress');

-- Changes of status, assignments, verifications and comments, in order.
CREATE TABLE remediation_history (
  tenant     text           NOT NULL,
  id         uuid           NOT NULL,
  action_id  uuid           NOT NULL,
  kind       text           NOT NULL CHECK (kind IN ('opened', 'status', 'assigned', 'verified', 'comment', 'seen_again')),
  made_by    text           NOT NULL,
  details    jsonb          NOT NULL,
  created_at timestamptz(3) NOT NULL DEFAULT now(),
  PRIMARY KEY (tenant, id),
  FOREIGN KEY (tenant, action_id) REFERENCES remediation_actions
);
CREATE INDEX remediation_history_of_action ON remediation_history (tenant, action_id, created_at, id);

SELECT fence('rules'), fence('scans'), fence('scan_results'), fence('scan_schedules'), fence('remediation_actions'), fence('remediation_history');
GRANT SELECT, INSERT, UPDATE, DELETE ON rules, scan_schedules TO signet_governance;
GRANT SELECT, INSERT ON scans, scan_results, remediation_history TO signet_governance;
GRANT SELECT, INSERT, UPDATE ON remediation_actions TO signet_governance;
