-- Who the data subjects of sealed personal fields are (docs/reference/sealing.md). Without a master key, which is in no database, nothing here
-- tells a name: keys are wrapped, names are sealed under their keys, and are looked up by an HMAC of a tenant's own key.
CREATE TABLE seal_tenants (
  tenant            text  PRIMARY KEY,
  master_key_id     text  NOT NULL,
  wrapped_index_key bytea NOT NULL
);

-- An erased subject keeps its row, without key, name and index: so that a reference to it is told from one that nobody knows.
CREATE TABLE subjects (
  tenant        text        NOT NULL,
  subject_id    uuid        NOT NULL,
  name_index    bytea       CHECK (length(name_index) = 32),
  master_key_id text,
  wrapped_key   bytea,
  sealed_name   bytea,
  created_at    timestamptz NOT NULL,
  erased_at     timestamptz,
  PRIMARY KEY (tenant, subject_id),
  UNIQUE (tenant, name_index),
  CHECK (num_nulls(name_index, master_key_id, wrapped_key, sealed_name) = CASE WHEN erased_at IS NULL THEN 0 ELSE 4 END)
);
CREATE INDEX subjects_master ON subjects (master_key_id) WHERE erased_at IS NULL;

-- Erasures. The receipt that counts is in the chain; here is what it takes to write it once, and to find it again.
CREATE TABLE erasures (
  id           uuid        PRIMARY KEY,
  tenant       text        NOT NULL,
  subject_id   uuid        NOT NULL,
  -- Until the receipt is in the chain, so that the same request again finds this one; then null.
  name_index   bytea,
  requested_by text        NOT NULL,
  reason       text,
  -- What was destroyed, as the receipt says it.
  destroyed    jsonb       NOT NULL,
  destroyed_at timestamptz NOT NULL,
  -- Where the receipt is.
  event_id     uuid,
  seq          bigint,
  recorded_at  timestamptz,
  UNIQUE (tenant, subject_id)
);
CREATE INDEX erasures_waiting ON erasures (destroyed_at) WHERE recorded_at IS NULL;

GRANT SELECT, INSERT, UPDATE ON seal_tenants, subjects, erasures TO signet_ledger;
