-- The ledger's mutable state: nothing here is evidence, all of it can be made again from the wall.
CREATE TABLE sessions (
  tenant         text        NOT NULL,
  session        uuid        NOT NULL,
  producer_id    text        NOT NULL,
  software       text,
  state          text        NOT NULL CHECK (state IN ('open', 'closed', 'lost')),
  last_spool_seq bigint      NOT NULL DEFAULT 0,
  opened_at      timestamptz NOT NULL,
  last_seen_at   timestamptz NOT NULL,
  closed_at      timestamptz,
  PRIMARY KEY (tenant, session)
);
CREATE INDEX sessions_open ON sessions (last_seen_at) WHERE state = 'open';

GRANT USAGE ON SCHEMA signet TO signet_ledger;
GRANT SELECT, INSERT, UPDATE ON sessions TO signet_ledger;
