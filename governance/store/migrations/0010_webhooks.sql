-- Who is told of what was done, and what is still to be told. A delivery is made in the transaction of what it tells.
CREATE TABLE webhooks (
  tenant      text           NOT NULL REFERENCES tenants,
  id          uuid           NOT NULL,
  url         text           NOT NULL,
  description text           NOT NULL,
  -- Types of events, `workflows.execute` or `violations.*`; empty: all.
  events      jsonb          NOT NULL,
  -- What messages are signed with, sealed.
  secret      bytea          NOT NULL,
  state       text           NOT NULL DEFAULT 'active' CHECK (state IN ('active', 'disabled')),
  version     integer        NOT NULL DEFAULT 1,
  created_at  timestamptz(3) NOT NULL DEFAULT now(),
  updated_at  timestamptz(3) NOT NULL DEFAULT now(),
  PRIMARY KEY (tenant, id)
);

CREATE TABLE webhook_deliveries (
  tenant       text           NOT NULL,
  id           uuid           NOT NULL,
  webhook_id   uuid           NOT NULL,
  event_type   text           NOT NULL,
  body         text           NOT NULL,
  status       text           NOT NULL DEFAULT 'pending' CHECK (status IN ('pending', 'delivered', 'dead')),
  tries        integer        NOT NULL DEFAULT 0,
  next_at      timestamptz(3) NOT NULL DEFAULT now(),
  last_reason  text,
  created_at   timestamptz(3) NOT NULL DEFAULT now(),
  ended_at     timestamptz(3),
  PRIMARY KEY (tenant, id),
  FOREIGN KEY (tenant, webhook_id) REFERENCES webhooks ON DELETE CASCADE
);
CREATE INDEX webhook_deliveries_due ON webhook_deliveries (tenant, next_at) WHERE status = 'pending';
CREATE INDEX webhook_deliveries_newest ON webhook_deliveries (tenant, webhook_id, created_at DESC, id DESC);

SELECT fence('webhooks'), fence('webhook_deliveries');
GRANT SELECT, INSERT, UPDATE, DELETE ON webhooks, webhook_deliveries TO signet_governance;

-- A critical violation is closed by people: whatever the program says.
ALTER TABLE compliance_violations ADD CONSTRAINT critical_is_closed_by_people
  CHECK (NOT (severity = 'critical' AND state = 'resolved' AND coalesce(resolved_by, 'system/') LIKE 'system/%'));
