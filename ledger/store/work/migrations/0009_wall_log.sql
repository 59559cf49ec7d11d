-- How far PostgreSQL's own log of the wall's server was read. What is between `position` and `pending` was being recorded when a process died: the
-- next one records exactly that again, and the chain has each event once.
CREATE TABLE wall_log_cursors (
  source        text        PRIMARY KEY,
  claimed_by    uuid,
  claimed_until timestamptz,
  file          text,
  -- Of the file, so that one that was replaced is not taken for it.
  inode         text,
  position      bigint      NOT NULL DEFAULT 0,
  pending       bigint
);
GRANT SELECT, INSERT, UPDATE ON wall_log_cursors TO signet_ledger;
