-- A restore is stated, and locks are made longer, by one process at a time.
ALTER TABLE archive_duty DROP CONSTRAINT archive_duty_name_check;
ALTER TABLE archive_duty ADD CONSTRAINT archive_duty_name_check CHECK (name IN ('snapshots', 'checkpoints', 'restores', 'locks'));
INSERT INTO archive_duty (name) VALUES ('restores'), ('locks');

-- Of 'checkpoints': the last one that was archived, in leaves, and the history that it is of (0, or the number of a restore). A hint: the bucket says.
ALTER TABLE archive_duty ADD COLUMN held_branch integer, ADD COLUMN held_size bigint;

-- What the store calls the manifest that was written; null for those from before it was kept.
ALTER TABLE archive_snapshots ADD COLUMN manifest_version text;

-- The snapshot under way, so that one which was interrupted goes on. Losing this costs what it had written.
CREATE TABLE archive_unfinished (
  snapshot  uuid        PRIMARY KEY,
  made_at   timestamptz NOT NULL,
  tree_size bigint      NOT NULL CHECK (tree_size > 0),
  note      text        NOT NULL,
  -- The snapshot that it adds to; null for the first.
  previous  uuid
);
CREATE TABLE archive_unfinished_objects (
  snapshot uuid   NOT NULL REFERENCES archive_unfinished ON DELETE CASCADE,
  number   integer NOT NULL CHECK (number > 0),
  -- What rows it is a part of, and the place of its last row among them: it goes on after that.
  section  text   NOT NULL,
  last_at  bigint NOT NULL,
  object   jsonb  NOT NULL,
  PRIMARY KEY (snapshot, number)
);
GRANT SELECT, INSERT, DELETE ON archive_unfinished, archive_unfinished_objects TO signet_ledger;
