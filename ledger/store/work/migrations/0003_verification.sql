-- Where the background verifier is, and which process has the word: another takes over when its time is up.
CREATE TABLE verification (
  one           boolean     PRIMARY KEY DEFAULT true CHECK (one),
  claimed_by    uuid,
  claimed_until timestamptz,
  -- First all chains, then the tree, then from the beginning.
  phase         text        NOT NULL DEFAULT 'chains' CHECK (phase IN ('chains', 'tree')),
  -- The last link found sound in this pass; null where it is to begin.
  tenant        text,
  seq           bigint      NOT NULL DEFAULT 0,
  hash          bytea,
  pass          bigint      NOT NULL DEFAULT 0,
  pass_ended_at timestamptz
);
INSERT INTO verification DEFAULT VALUES;

GRANT SELECT, UPDATE ON verification TO signet_ledger;
