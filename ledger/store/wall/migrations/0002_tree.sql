-- The tree over the links of all tenants (RFC 6962): which link is which leaf, and the tiles that are full. A leaf's bytes are in
-- its link and are kept nowhere else. Only what is integrated is here; the order of leaves is the order of integration.

-- Leaves first_leaf … first_leaf + count - 1 are the tenant's links first_seq … first_seq + count - 1.
CREATE TABLE tree_runs (
  first_leaf bigint  NOT NULL PRIMARY KEY CHECK (first_leaf >= 0),
  tenant     text    NOT NULL,
  first_seq  bigint  NOT NULL CHECK (first_seq > 0),
  count      integer NOT NULL CHECK (count > 0),
  UNIQUE (tenant, first_seq)
);

-- Full tiles of hashes: 256 of 32 bytes (https://c2sp.org/tlog-tiles), with the hash that stands for the tile one level up.
CREATE TABLE tree_tiles (
  level  smallint NOT NULL CHECK (level >= 0),
  index  bigint   NOT NULL CHECK (index >= 0),
  hashes bytea    NOT NULL CHECK (length(hashes) = 8192),
  root   bytea    NOT NULL CHECK (length(root) = 32),
  PRIMARY KEY (level, index)
);
ALTER TABLE tree_tiles ALTER hashes SET STORAGE EXTERNAL;

-- Every size at which the tree was signed, with the signed note (https://c2sp.org/tlog-checkpoint).
CREATE TABLE tree_checkpoints (
  size    bigint      NOT NULL PRIMARY KEY CHECK (size >= 0),
  root    bytea       NOT NULL CHECK (length(root) = 32),
  note    text        NOT NULL,
  made_at timestamptz NOT NULL
);

SELECT guard('tree_runs', false);
-- Tiles and checkpoints are public and of no tenant.
DO $$
DECLARE
  target regclass;
BEGIN
  FOREACH target IN ARRAY ARRAY['signet.tree_tiles', 'signet.tree_checkpoints']::regclass[] LOOP
    EXECUTE format('CREATE TRIGGER refuse_change BEFORE UPDATE OR DELETE ON %s FOR EACH ROW EXECUTE FUNCTION signet.refuse_change()', target);
    EXECUTE format('CREATE TRIGGER refuse_truncate BEFORE TRUNCATE ON %s FOR EACH STATEMENT EXECUTE FUNCTION signet.refuse_change()', target);
    EXECUTE format('ALTER TABLE %s ENABLE ALWAYS TRIGGER refuse_change', target);
    EXECUTE format('ALTER TABLE %s ENABLE ALWAYS TRIGGER refuse_truncate', target);
  END LOOP;
END $$;

-- The integrator sees the links of all tenants. It says so for one transaction, as others name their tenant.
CREATE POLICY tree_reads ON links FOR SELECT USING (current_setting('signet.tree', true) = 'on');
CREATE POLICY tree_reads ON tree_runs FOR SELECT USING (current_setting('signet.tree', true) = 'on');
CREATE POLICY tree_adds ON tree_runs FOR INSERT WITH CHECK (current_setting('signet.tree', true) = 'on');
DROP POLICY tenant_adds ON tree_runs;

GRANT SELECT, INSERT ON tree_runs, tree_tiles, tree_checkpoints TO signet_ledger;
