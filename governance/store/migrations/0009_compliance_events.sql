-- What systems report, what rules find in it, and the records that it is judged by.
CREATE TABLE compliance_reference (
  tenant     text           NOT NULL REFERENCES tenants,
  kind       text           NOT NULL,
  key        text           NOT NULL,
  value      jsonb          NOT NULL,
  version    integer        NOT NULL DEFAULT 1,
  updated_by text           NOT NULL,
  -- When it was first there: a supervision record counts from then.
  created_at timestamptz(3) NOT NULL DEFAULT now(),
  updated_at timestamptz(3) NOT NULL DEFAULT now(),
  PRIMARY KEY (tenant, kind, key)
);

CREATE TABLE compliance_events (
  tenant     text           NOT NULL REFERENCES tenants,
  id         uuid           NOT NULL,
  source     text           NOT NULL,
  event_type text           NOT NULL,
  -- Client, actor or agent that it is about, and the amount that it adds (tokens, minutes, records): what later events are compared with.
  subject    text,
  amount     double precision,
  details    jsonb          NOT NULL,
  made_by    text           NOT NULL,
  created_at timestamptz(3) NOT NULL DEFAULT now(),
  PRIMARY KEY (tenant, id)
);
CREATE INDEX compliance_events_of_subject ON compliance_events (tenant, source, subject, created_at DESC) INCLUDE (amount);
CREATE INDEX compliance_events_newest ON compliance_events (tenant, created_at DESC, id DESC);

CREATE TABLE compliance_violations (
  tenant        text           NOT NULL,
  id            uuid           NOT NULL,
  event_id      uuid           NOT NULL,
  rule          text           NOT NULL,
  severity      text           NOT NULL CHECK (severity IN ('low', 'medium', 'high', 'critical')),
  -- 1 is the worst.
  severity_rank integer        NOT NULL CHECK (severity_rank BETWEEN 1 AND 4),
  subject       text,
  summary       text           NOT NULL,
  state         text           NOT NULL DEFAULT 'open' CHECK (state IN ('open', 'contained', 'resolved')),
  resolved_by   text,
  resolved_at   timestamptz(3),
  resolution    jsonb,
  created_at    timestamptz(3) NOT NULL DEFAULT now(),
  PRIMARY KEY (tenant, id),
  FOREIGN KEY (tenant, event_id) REFERENCES compliance_events
);
CREATE INDEX compliance_violations_open ON compliance_violations (tenant, severity_rank, created_at DESC, id DESC) WHERE state <> 'resolved';
CREATE INDEX compliance_violations_by_severity ON compliance_violations (tenant, severity, state);

-- What Signet did about a violation by itself: one row for each try.
CREATE TABLE resolution_attempts (
  tenant       text           NOT NULL,
  id           uuid           NOT NULL,
  violation_id uuid           NOT NULL,
  strategy     text           NOT NULL,
  dry_run      boolean        NOT NULL,
  outcome      text           NOT NULL CHECK (outcome IN ('resolved', 'contained', 'not_resolved', 'failed', 'would_act')),
  detail       text           NOT NULL,
  evidence     jsonb          NOT NULL,
  created_at   timestamptz(3) NOT NULL DEFAULT now(),
  PRIMARY KEY (tenant, id),
  FOREIGN KEY (tenant, violation_id) REFERENCES compliance_violations
);
CREATE INDEX resolution_attempts_of ON resolution_attempts (tenant, violation_id, created_at, id);

-- Whether Signet resolves by itself; a tenant without a row: it does not.
CREATE TABLE resolution_settings (
  tenant     text           NOT NULL REFERENCES tenants,
  mode       text           NOT NULL CHECK (mode IN ('off', 'dry_run', 'on')),
  updated_by text           NOT NULL,
  updated_at timestamptz(3) NOT NULL DEFAULT now(),
  PRIMARY KEY (tenant)
);

SELECT fence('compliance_reference'), fence('compliance_events'), fence('compliance_violations'), fence('resolution_attempts'), fence('resolution_settings');
GRANT SELECT, INSERT, UPDATE, DELETE ON compliance_reference TO signet_governance;
GRANT SELECT, INSERT ON compliance_events, resolution_attempts TO signet_governance;
GRANT SELECT, INSERT, UPDATE ON compliance_violations, resolution_settings TO signet_governance;
