-- What the archive was seen to hold: one row for each tenant, class and month whose records a snapshot has, written only after the snapshot
-- was read back from the store. A purge asks for it (0005). first_seq, last_seq and records are of the whole month, not of what was new.
CREATE TABLE archive_proofs (
  tenant          text        NOT NULL,
  retention_class text        NOT NULL,
  month           date        NOT NULL,
  snapshot        uuid        NOT NULL,
  first_seq       bigint      NOT NULL CHECK (first_seq > 0),
  last_seq        bigint      NOT NULL CHECK (last_seq >= first_seq),
  records         bigint      NOT NULL CHECK (records > 0),
  manifest_sha256 bytea       NOT NULL CHECK (length(manifest_sha256) = 32),
  object_key      text        NOT NULL,
  retain_until    timestamptz NOT NULL,
  tree_size       bigint      NOT NULL CHECK (tree_size > 0),
  verified_at     timestamptz NOT NULL,
  PRIMARY KEY (tenant, retention_class, month, snapshot)
);
SELECT guard('archive_proofs', false);
GRANT SELECT, INSERT ON archive_proofs TO signet_ledger;
