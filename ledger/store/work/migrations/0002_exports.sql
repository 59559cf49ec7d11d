-- Exports as jobs. What they hold is on the wall; here is what was asked for, how far it is, and the signed manifest, never a record.
CREATE TABLE exports (
  id             uuid        PRIMARY KEY,
  tenant         text        NOT NULL,
  requested_by   text        NOT NULL,
  -- Format, filters and whether exact bytes were asked for.
  request        jsonb       NOT NULL,
  -- The last record that may be in it.
  head_seq       bigint      NOT NULL,
  state          text        NOT NULL CHECK (state IN ('queued', 'running', 'done', 'failed')),
  created_at     timestamptz NOT NULL,
  expires_at     timestamptz NOT NULL,
  -- Which process works on it, and until when it has the word: another takes over then.
  claimed_by     uuid,
  claimed_until  timestamptz,
  attempts       integer     NOT NULL DEFAULT 0,
  records_found  bigint      NOT NULL,
  found_exact    boolean     NOT NULL,
  records_done   bigint      NOT NULL DEFAULT 0,
  finished_at    timestamptz,
  -- What the archive is made from again, byte for byte: its small files, and sizes of the others.
  package        jsonb,
  error          jsonb
);
CREATE INDEX exports_waiting ON exports (created_at) WHERE state IN ('queued', 'running');
CREATE INDEX exports_tenant ON exports (tenant, created_at);

CREATE TABLE export_freezes (
  tenant    text        PRIMARY KEY,
  frozen_at timestamptz NOT NULL,
  frozen_by text        NOT NULL,
  reason    text        NOT NULL
);

GRANT SELECT, INSERT, UPDATE, DELETE ON exports, export_freezes TO signet_ledger;
