-- What the ledger refuses is tried again after everything else, so that it holds nothing up.
ALTER TABLE actions ADD COLUMN refused_at timestamptz;
-- Nothing grows for ever: what the ledger has, and what ran out, goes after a while.
CREATE INDEX actions_recorded ON actions (tenant, recorded_at) WHERE recorded_at IS NOT NULL;
GRANT DELETE ON actions TO signet_governance;
