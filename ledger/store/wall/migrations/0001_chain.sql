-- The wall: the chain and what it commits to. Runs as the owner role; `signet_ledger` is the only login that may write, and
-- it may only add. Tables are append-only for everybody: triggers that fire ALWAYS refuse the rest to owner and superuser too
-- (a superuser can take them away; `GET /api/audit/verify` finds what was changed then).

CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog AS $$
BEGIN
  RAISE EXCEPTION '% on %.% refused: the audit wall is append-only', TG_OP, TG_TABLE_SCHEMA, TG_TABLE_NAME
    USING ERRCODE = 'insufficient_privilege', HINT = 'a correction is a new event';
END $$;

-- Puts a table of the wall under guard. TRUNCATE triggers are not inherited by partitions, so each partition comes here too.
-- A partition also gets row level security without a policy: read past its parent, it is empty even to the owner.
CREATE FUNCTION guard(target regclass, is_partition boolean) RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog AS $$
BEGIN
  IF NOT is_partition THEN
    EXECUTE format('CREATE TRIGGER refuse_change BEFORE UPDATE OR DELETE ON %s FOR EACH ROW EXECUTE FUNCTION signet.refuse_change()', target);
    EXECUTE format('ALTER TABLE %s ENABLE ALWAYS TRIGGER refuse_change', target);
  END IF;
  EXECUTE format('CREATE TRIGGER refuse_truncate BEFORE TRUNCATE ON %s FOR EACH STATEMENT EXECUTE FUNCTION signet.refuse_change()', target);
  EXECUTE format('ALTER TABLE %s ENABLE ALWAYS TRIGGER refuse_truncate', target);
  EXECUTE format('ALTER TABLE %s ENABLE ROW LEVEL SECURITY', target);
  EXECUTE format('ALTER TABLE %s FORCE ROW LEVEL SECURITY', target);
  IF NOT is_partition THEN
    EXECUTE format('CREATE POLICY tenant_reads ON %s FOR SELECT USING (tenant = current_setting(''signet.tenant'', true))', target);
    EXECUTE format('CREATE POLICY tenant_adds ON %s FOR INSERT WITH CHECK (tenant = current_setting(''signet.tenant'', true))', target);
  END IF;
END $$;

-- One row an event, never purged. Hashes are raw SHA-256; 32 zero bytes where there is no predecessor.
CREATE TABLE links (
  tenant              text        NOT NULL,
  seq                 bigint      NOT NULL CHECK (seq > 0),
  event_id            uuid        NOT NULL,
  commitment          bytea       NOT NULL CHECK (length(commitment) = 32),
  hash                bytea       NOT NULL CHECK (length(hash) = 32),
  previous_hash       bytea       NOT NULL CHECK (length(previous_hash) = 32),
  previous_trace_hash bytea       NOT NULL CHECK (length(previous_trace_hash) = 32),
  key_id              text        NOT NULL,
  trace_hmac          bytea       NOT NULL CHECK (length(trace_hmac) = 32),
  received_hmac       bytea       NOT NULL CHECK (length(received_hmac) = 32),
  retention_class     text        NOT NULL,
  month               date        NOT NULL,
  appended_at         timestamptz NOT NULL,
  PRIMARY KEY (tenant, seq),
  UNIQUE (tenant, event_id)
) PARTITION BY HASH (tenant);
CREATE INDEX links_trace ON links (tenant, trace_hmac, seq DESC);

-- What a link commits to: nonce and exact sealed bytes, and projections of those bytes to search by. Purged by partition.
CREATE TABLE records (
  tenant          text   NOT NULL,
  seq             bigint NOT NULL,
  retention_class text   NOT NULL,
  month           date   NOT NULL,
  nonce           bytea  NOT NULL CHECK (length(nonce) = 32),
  bytes           bytea  NOT NULL,
  "timestamp"     timestamptz NOT NULL,
  received_at     timestamptz NOT NULL,
  event_id        uuid   NOT NULL,
  event_type      text   NOT NULL,
  actor           text   NOT NULL,
  action          text   NOT NULL,
  resource        text   NOT NULL,
  resource_type   text,
  resource_id     text,
  stage           text   NOT NULL,
  outcome         text   NOT NULL,
  trace_id        text   NOT NULL,
  request_id      text   NOT NULL,
  session         uuid,
  spool_seq       bigint,
  producer_id     text   NOT NULL,
  region          text,
  data_domain     text,
  stamp_hash      text,
  PRIMARY KEY (tenant, seq, retention_class, month)
) PARTITION BY LIST (retention_class);
-- left(…): a B-tree entry has to stay below 2.7 kB, and a write must not fail for the length of a name.
CREATE INDEX records_trace    ON records (tenant, trace_id, seq DESC);
CREATE INDEX records_request  ON records (tenant, left(request_id, 100), seq DESC);
CREATE INDEX records_actor    ON records (tenant, left(actor, 100), seq DESC);
CREATE INDEX records_resource ON records (tenant, left(resource, 100), seq DESC);
CREATE INDEX records_session  ON records (tenant, session, spool_seq DESC) WHERE spool_seq IS NOT NULL;
CREATE INDEX records_time     ON records USING brin ("timestamp");

-- Whole stamps, as their exact JCS bytes. `seq`: the first event that carried it.
CREATE TABLE compliance_stamps (
  tenant          text   NOT NULL,
  stamp_hash      text   NOT NULL,
  seq             bigint NOT NULL,
  trace_id        text   NOT NULL,
  request_id      text   NOT NULL,
  retention_class text   NOT NULL,
  stamp           bytea  NOT NULL,
  PRIMARY KEY (tenant, stamp_hash)
) PARTITION BY HASH (tenant);
CREATE INDEX compliance_stamps_request ON compliance_stamps (tenant, left(request_id, 100), seq DESC);

SELECT guard('links', false), guard('records', false), guard('compliance_stamps', false);

DO $$
BEGIN
  FOR part IN 0..7 LOOP
    EXECUTE format('CREATE TABLE links_%s PARTITION OF links FOR VALUES WITH (MODULUS 8, REMAINDER %s)', part, part);
    EXECUTE format('CREATE TABLE compliance_stamps_%s PARTITION OF compliance_stamps FOR VALUES WITH (MODULUS 8, REMAINDER %s)', part, part);
    PERFORM signet.guard(format('signet.links_%s', part)::regclass, true);
    PERFORM signet.guard(format('signet.compliance_stamps_%s', part)::regclass, true);
  END LOOP;
END $$;

-- The class `default`, by month, with a partition for every month that has none of its own: a write never fails for want of one.
CREATE TABLE records_default PARTITION OF records FOR VALUES IN ('default') PARTITION BY RANGE (month);
CREATE TABLE records_default_rest PARTITION OF records_default DEFAULT;
SELECT guard('records_default', true), guard('records_default_rest', true);

-- Makes the partitions of this month and the next two, for each class. Runs with the owner's rights, takes no input, and can do
-- nothing else: the ledger calls it at start and once a day.
CREATE FUNCTION ensure_partitions() RETURNS integer LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  class_table regclass;
  first_day date;
  part text;
  made integer := 0;
BEGIN
  PERFORM pg_advisory_xact_lock(hashtextextended('signet.ensure_partitions', 0));
  FOR class_table IN SELECT inhrelid::regclass FROM pg_inherits WHERE inhparent = 'signet.records'::regclass LOOP
    FOR ahead IN 0..2 LOOP
      first_day := (date_trunc('month', now() AT TIME ZONE 'UTC') + make_interval(months => ahead))::date;
      part := (SELECT relname FROM pg_class WHERE oid = class_table) || to_char(first_day, '"_"YYYY"_"MM');
      IF to_regclass('signet.' || quote_ident(part)) IS NULL THEN
        BEGIN
          EXECUTE format('CREATE TABLE signet.%I PARTITION OF %s FOR VALUES FROM (%L) TO (%L)',
            part, class_table, first_day, (first_day + interval '1 month')::date);
          PERFORM signet.guard(format('signet.%I', part)::regclass, true);
          made := made + 1;
        EXCEPTION WHEN check_violation THEN
          -- Rows of that month are already in the rest partition: they stay there.
          NULL;
        END;
      END IF;
    END LOOP;
  END LOOP;
  RETURN made;
END $$;
REVOKE ALL ON FUNCTION ensure_partitions(), guard(regclass, boolean), refuse_change() FROM PUBLIC;
SELECT ensure_partitions();

GRANT USAGE ON SCHEMA signet TO signet_ledger;
GRANT SELECT, INSERT ON links, records, compliance_stamps TO signet_ledger;
GRANT EXECUTE ON FUNCTION ensure_partitions() TO signet_ledger;
