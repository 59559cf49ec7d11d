-- Which process archives, and the snapshots that it made. Losing this costs one snapshot of everything, nothing else.
CREATE TABLE archive_duty (
  name          text PRIMARY KEY CHECK (name IN ('snapshots', 'checkpoints')),
  claimed_by    uuid,
  claimed_until timestamptz
);
INSERT INTO archive_duty (name) VALUES ('snapshots'), ('checkpoints');

CREATE TABLE archive_snapshots (
  snapshot        uuid        PRIMARY KEY,
  made_at         timestamptz NOT NULL,
  manifest_key    text        NOT NULL,
  manifest_sha256 bytea       NOT NULL CHECK (length(manifest_sha256) = 32),
  tree_size       bigint      NOT NULL,
  -- New in this snapshot.
  records         bigint      NOT NULL,
  objects         bigint      NOT NULL,
  bytes           bigint      NOT NULL
);
CREATE INDEX archive_snapshots_made ON archive_snapshots (made_at DESC);

GRANT SELECT, UPDATE ON archive_duty TO signet_ledger;
GRANT SELECT, INSERT ON archive_snapshots TO signet_ledger;
