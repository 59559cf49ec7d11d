-- What shows that controls hold: files in the object store, and what is known of them here.
CREATE TABLE evidence (
  tenant        text           NOT NULL REFERENCES tenants,
  id            uuid           NOT NULL,
  -- `file`: somebody brought it; the others Signet collects itself.
  kind          text           NOT NULL CHECK (kind IN ('file', 'scan', 'ledger', 'stamp')),
  name          text           NOT NULL,
  description   text           NOT NULL,
  media_type    text           NOT NULL,
  bytes         integer        NOT NULL CHECK (bytes > 0),
  sha256        text           NOT NULL CHECK (sha256 ~ '^[0-9a-f]{64}$'),
  object_key    text           NOT NULL,
  -- What is collected on a schedule is collected once: the day, and of what.
  collected_key text,
  -- Until when it says something of today.
  valid_until   timestamptz(3) NOT NULL,
  made_by       text           NOT NULL,
  version       integer        NOT NULL DEFAULT 1,
  created_at    timestamptz(3) NOT NULL DEFAULT now(),
  updated_at    timestamptz(3) NOT NULL DEFAULT now(),
  PRIMARY KEY (tenant, id)
);
CREATE INDEX evidence_newest ON evidence (tenant, created_at DESC, id DESC);
CREATE INDEX evidence_by_kind ON evidence (tenant, kind, created_at DESC, id DESC);
CREATE UNIQUE INDEX evidence_collected ON evidence (tenant, kind, collected_key) WHERE collected_key IS NOT NULL;

-- The controls that it is evidence of. `created_at` is the evidence's, to be paged by.
CREATE TABLE evidence_controls (
  tenant      text           NOT NULL,
  framework   text           NOT NULL,
  control     text           NOT NULL,
  evidence_id uuid           NOT NULL,
  created_at  timestamptz(3) NOT NULL,
  PRIMARY KEY (tenant, evidence_id, framework, control),
  FOREIGN KEY (tenant, evidence_id) REFERENCES evidence ON DELETE CASCADE
);
CREATE INDEX evidence_of_control ON evidence_controls (tenant, framework, control, created_at DESC, evidence_id DESC);

-- Objects that nothing refers to, or does not yet: each is here before it is in the store, and leaves in the transaction that makes its
-- evidence. What is still here when it is due is deleted from the store.
CREATE TABLE evidence_unclaimed (
  tenant     text           NOT NULL REFERENCES tenants,
  object_key text           NOT NULL,
  due_at     timestamptz(3) NOT NULL,
  PRIMARY KEY (tenant, object_key)
);
CREATE INDEX evidence_unclaimed_due ON evidence_unclaimed (tenant, due_at);

SELECT fence('evidence'), fence('evidence_controls'), fence('evidence_unclaimed');
GRANT SELECT, INSERT, UPDATE, DELETE ON evidence, evidence_controls, evidence_unclaimed TO signet_governance;
