-- Retention. The class of a record is fixed when it is written and says for how long it is kept: `h90_a2562` is 90 days hot and 2562 in all.
-- A class has a table of its own with a partition for each month, and what is past its time goes by dropping one. All of it here runs with
-- the owner's rights and takes names and numbers only: the ledger's login cannot drop, and a caller cannot get around what is checked.

-- `default` is not here: it is for what no policy fits, and is never purged.
CREATE TABLE retention_classes (
  name         text        PRIMARY KEY,
  hot_days     integer     NOT NULL CHECK (hot_days BETWEEN 30 AND 36600000),
  archive_days integer     NOT NULL CHECK (archive_days BETWEEN hot_days AND 36600000),
  never        boolean     NOT NULL,
  keep_summary boolean     NOT NULL,
  made_at      timestamptz NOT NULL DEFAULT now()
);

-- Stamps of the events of a class, by month as the events are; those of `default` are in compliance_stamps.
CREATE TABLE class_stamps (
  tenant          text   NOT NULL,
  stamp_hash      text   NOT NULL,
  seq             bigint NOT NULL,
  trace_id        text   NOT NULL,
  request_id      text   NOT NULL,
  retention_class text   NOT NULL,
  month           date   NOT NULL,
  stamp           bytea  NOT NULL,
  PRIMARY KEY (tenant, stamp_hash, retention_class, month)
) PARTITION BY LIST (retention_class);
CREATE INDEX class_stamps_request ON class_stamps (tenant, md5(request_id), seq);
-- What readers read. Row level security is that of who reads.
CREATE VIEW stamps WITH (security_invoker = true) AS
  SELECT tenant, stamp_hash, seq, trace_id, request_id, retention_class, NULL::date AS month, stamp FROM compliance_stamps
  UNION ALL
  SELECT tenant, stamp_hash, seq, trace_id, request_id, retention_class, month, stamp FROM class_stamps;

-- A hold keeps every partition that has a record which it selects (null: all of the tenant's), from and to its months. It ends by a release.
CREATE TABLE legal_holds (
  tenant       text        NOT NULL,
  id           uuid        NOT NULL,
  reason       text        NOT NULL,
  reference    text,
  data_domains text[],
  regions      text[],
  from_month   date,
  to_month     date,
  -- The policy that asks for it; null for one placed by hand.
  policy       text,
  placed_by    text        NOT NULL,
  placed_at    timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (tenant, id)
);
CREATE TABLE legal_hold_releases (
  tenant      text        NOT NULL,
  id          uuid        NOT NULL,
  reason      text        NOT NULL,
  released_by text        NOT NULL,
  released_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (tenant, id)
);

-- What was purged, of whom, and where in the tenant's chain that was allowed. Only the purge writes here.
CREATE TABLE purges (
  tenant          text        NOT NULL,
  retention_class text        NOT NULL,
  month           date        NOT NULL,
  first_seq       bigint      NOT NULL,
  last_seq        bigint      NOT NULL,
  records         bigint      NOT NULL,
  authorized_seq  bigint      NOT NULL,
  snapshot        uuid        NOT NULL,
  purged_at       timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (tenant, retention_class, month)
);
-- Counts that stay: by day of writing, event type and outcome. `event_type` '(others)': past 10,000 lines of a tenant.
CREATE TABLE purge_summaries (
  tenant          text   NOT NULL,
  retention_class text   NOT NULL,
  month           date   NOT NULL,
  day             date   NOT NULL,
  event_type      text   NOT NULL,
  outcome         text   NOT NULL,
  records         bigint NOT NULL
);
CREATE INDEX purge_summaries_month ON purge_summaries (tenant, month);
-- How far sessions had come whose records went: a session that goes on is not taken for a new one, nor what went for a gap.
CREATE TABLE purged_sessions (
  tenant          text   NOT NULL,
  session         uuid   NOT NULL,
  producer_id     text   NOT NULL,
  spool_seq       bigint NOT NULL,
  retention_class text   NOT NULL,
  month           date   NOT NULL,
  PRIMARY KEY (tenant, session, retention_class, month)
);

SELECT guard('class_stamps', false), guard('legal_holds', false), guard('legal_hold_releases', false), guard('purges', false),
       guard('purge_summaries', false), guard('purged_sessions', false);
DROP POLICY tenant_adds ON purges;
DROP POLICY tenant_adds ON purge_summaries;
DROP POLICY tenant_adds ON purged_sessions;
CREATE POLICY owner_adds ON purges FOR INSERT TO CURRENT_USER WITH CHECK (true);
CREATE POLICY owner_adds ON purge_summaries FOR INSERT TO CURRENT_USER WITH CHECK (true);
CREATE POLICY owner_adds ON purged_sessions FOR INSERT TO CURRENT_USER WITH CHECK (true);
CREATE POLICY owner_reads ON purges FOR SELECT TO CURRENT_USER USING (true);
-- Classes are of no tenant.
CREATE TRIGGER refuse_change BEFORE UPDATE OR DELETE ON retention_classes FOR EACH ROW EXECUTE FUNCTION refuse_change();
CREATE TRIGGER refuse_truncate BEFORE TRUNCATE ON retention_classes FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
ALTER TABLE retention_classes ENABLE ALWAYS TRIGGER refuse_change;
ALTER TABLE retention_classes ENABLE ALWAYS TRIGGER refuse_truncate;

-- As before, and for the stamps of classes. Where it waits for a reader that waits for it, it is the one that gives up: its time-out is
-- shorter than deadlock_timeout (1 s), and it is called again.
CREATE OR REPLACE FUNCTION ensure_partitions() RETURNS integer LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET lock_timeout = '500ms' AS $$
DECLARE
  class_table regclass;
  first_day date;
  part text;
  made integer := 0;
BEGIN
  PERFORM pg_advisory_xact_lock(hashtextextended('signet.ensure_partitions', 0));
  FOR class_table IN SELECT inhrelid::regclass FROM pg_inherits
    WHERE inhparent IN ('signet.records'::regclass, 'signet.class_stamps'::regclass) ORDER BY inhrelid::regclass::text LOOP
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

CREATE FUNCTION retention_class_name(hot_days integer, archive_days integer, never boolean, keep_summary boolean) RETURNS text
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog AS $$
  SELECT format('h%s_a%s', hot_days, archive_days) || CASE WHEN never THEN '_never' ELSE '' END || CASE WHEN keep_summary THEN '' ELSE '_bare' END
$$;

-- Makes a class with its tables, once, and gives its name. At most 32, whatever the policies say: each is tables that every search reads.
CREATE FUNCTION ensure_retention_class(hot_days integer, archive_days integer, never boolean, keep_summary boolean) RETURNS text
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '500ms' AS $$
DECLARE
  tries integer := 0;
  class_name text := signet.retention_class_name(hot_days, archive_days, never, keep_summary);
  part text;
BEGIN
  IF class_name IS NULL OR hot_days < 30 OR archive_days < hot_days OR archive_days > 36600000 THEN
    RAISE EXCEPTION 'a retention class is hot for 30 days at least, and kept for no less in all' USING ERRCODE = 'invalid_parameter_value';
  END IF;
  IF EXISTS (SELECT FROM signet.retention_classes WHERE name = class_name) THEN RETURN class_name; END IF;
  LOOP
    BEGIN
      PERFORM pg_advisory_xact_lock(hashtextextended('signet.ensure_partitions', 0));
      LOCK TABLE ONLY signet.records, ONLY signet.class_stamps IN ACCESS EXCLUSIVE MODE;
      EXIT;
    EXCEPTION WHEN lock_not_available OR deadlock_detected THEN
      tries := tries + 1;
      IF tries >= 10 THEN RAISE; END IF;
      PERFORM pg_sleep(0.1);
    END;
  END LOOP;
  IF EXISTS (SELECT FROM signet.retention_classes WHERE name = class_name) THEN RETURN class_name; END IF;
  IF (SELECT count(*) FROM signet.retention_classes) >= 32 THEN
    RAISE EXCEPTION 'there are 32 retention classes, and there can be no more' USING ERRCODE = 'configuration_limit_exceeded';
  END IF;
  EXECUTE format('CREATE TABLE signet.%I PARTITION OF signet.records FOR VALUES IN (%L) PARTITION BY RANGE (month)', 'records_' || class_name, class_name);
  EXECUTE format('CREATE TABLE signet.%I PARTITION OF signet.%I DEFAULT', 'records_' || class_name || '_rest', 'records_' || class_name);
  EXECUTE format('CREATE TABLE signet.%I PARTITION OF signet.class_stamps FOR VALUES IN (%L) PARTITION BY RANGE (month)', 'stamps_' || class_name, class_name);
  EXECUTE format('CREATE TABLE signet.%I PARTITION OF signet.%I DEFAULT', 'stamps_' || class_name || '_rest', 'stamps_' || class_name);
  FOREACH part IN ARRAY ARRAY['records_' || class_name, 'records_' || class_name || '_rest', 'stamps_' || class_name, 'stamps_' || class_name || '_rest'] LOOP
    PERFORM signet.guard(format('signet.%I', part)::regclass, true);
  END LOOP;
  INSERT INTO signet.retention_classes (name, hot_days, archive_days, never, keep_summary)
    VALUES (class_name, ensure_retention_class.hot_days, ensure_retention_class.archive_days, ensure_retention_class.never, ensure_retention_class.keep_summary);
  PERFORM signet.ensure_partitions();
  RETURN class_name;
END $$;

-- The months of all classes that have a partition of their own, and until when they are hot and kept (`9999-12-31`: past all times).
CREATE FUNCTION retention_months() RETURNS TABLE (retention_class text, month date, hot_until timestamptz, keep_until timestamptz, never boolean)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
  SELECT c.name, m.month,
         least(((m.month + interval '1 month') AT TIME ZONE 'UTC') + make_interval(days => c.hot_days), timestamptz '9999-12-31 00:00:00Z'),
         least(((m.month + interval '1 month') AT TIME ZONE 'UTC') + make_interval(days => c.archive_days), timestamptz '9999-12-31 00:00:00Z'),
         c.never
    FROM signet.retention_classes c
    JOIN pg_inherits i ON i.inhparent = to_regclass(format('signet.%I', 'records_' || c.name))
    JOIN pg_class p ON p.oid = i.inhrelid
    CROSS JOIN LATERAL (SELECT to_date(right(p.relname, 7), 'YYYY_MM') AS month WHERE p.relname ~ '_\d{4}_\d{2}$') AS m
   ORDER BY 1, 2
$$;

-- Whose records a month of a class has, and which.
CREATE FUNCTION retention_tenants(class_name text, of_month date)
RETURNS TABLE (tenant text, first_seq bigint, last_seq bigint, records bigint)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  RETURN QUERY
    WITH RECURSIVE names AS (
      (SELECT r.tenant FROM signet.records r WHERE r.retention_class = class_name AND r.month = of_month ORDER BY r.tenant LIMIT 1)
      UNION ALL
      SELECT (SELECT r.tenant FROM signet.records r
               WHERE r.retention_class = class_name AND r.month = of_month AND r.tenant > n.tenant ORDER BY r.tenant LIMIT 1)
        FROM names n WHERE n.tenant IS NOT NULL)
    SELECT n.tenant, s.first_seq, s.last_seq, s.records FROM names n
     CROSS JOIN LATERAL (SELECT min(r.seq) AS first_seq, max(r.seq) AS last_seq, count(*) AS records FROM signet.records r
                          WHERE r.retention_class = class_name AND r.month = of_month AND r.tenant = n.tenant) AS s
     WHERE n.tenant IS NOT NULL;
END $$;

-- The links of a tenant that a month of a class has, as a purge record lists them: for each block of `width` numbers of the chain that has
-- any, [block, links, SHA-256 over their numbers (64 bits, big-endian) and commitments in order].
CREATE FUNCTION purge_blocks(of_tenant text, class_name text, of_month date, first bigint, last bigint, width integer) RETURNS jsonb
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT coalesce(jsonb_agg(jsonb_build_array(block, links, digest) ORDER BY block), '[]')
    FROM (SELECT (seq - 1) / width AS block, count(*) AS links,
                 encode(sha256(string_agg(int8send(seq) || commitment, ''::bytea ORDER BY seq)), 'hex') AS digest
            FROM signet.links
           WHERE tenant = of_tenant AND seq BETWEEN first AND last AND retention_class = class_name AND month = of_month
           GROUP BY 1) AS b
$$;

-- The purge record of a tenant: the last one that allows it and was not given up; null where there is none, where it is not what its link
-- commits to, or where no signed checkpoint has it. Whether a key made the link, the verifier says: there is no key here.
CREATE FUNCTION purge_authorization(of_tenant text, class_name text, of_month date) RETURNS TABLE (seq bigint, statement jsonb)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  RETURN QUERY
    WITH notices AS (
      SELECT r.seq, r.event_type, convert_from(r.bytes, 'UTF8')::jsonb #> '{event,context}' AS context
        FROM signet.records r JOIN signet.links l ON l.tenant = r.tenant AND l.seq = r.seq
       WHERE r.tenant = of_tenant AND r.retention_class = 'default'
         AND ((md5(r.event_type) = md5('audit.purge.authorized') AND r.event_type = 'audit.purge.authorized')
           OR (md5(r.event_type) = md5('audit.purge.abandoned') AND r.event_type = 'audit.purge.abandoned'))
         AND r.producer_id = 'signet-ledger' AND sha256(r.nonce || r.bytes) = l.commitment)
    SELECT n.seq, n.context -> 'statement' FROM notices n
     WHERE n.event_type = 'audit.purge.authorized'
       AND n.context #>> '{statement,tenant}' = of_tenant AND n.context #>> '{statement,retention_class}' = class_name
       AND n.context #>> '{statement,month}' = to_char(of_month, 'YYYY-MM-DD')
       AND NOT EXISTS (SELECT FROM notices a WHERE a.event_type = 'audit.purge.abandoned'
                        AND a.context ->> 'purge_id' = n.context #>> '{statement,purge_id}')
       AND EXISTS (SELECT FROM signet.tree_runs t WHERE t.tenant = of_tenant AND n.seq >= t.first_seq AND n.seq < t.first_seq + t.count
                    AND t.first_leaf + n.seq - t.first_seq < (SELECT max(size) FROM signet.tree_checkpoints))
     ORDER BY n.seq DESC LIMIT 1;
EXCEPTION WHEN invalid_text_representation OR untranslatable_character OR character_not_in_repertoire THEN
  RETURN;
END $$;

-- Why a month of a class may not be purged; nothing where it may. `tenant`: whose it is, null where it is nobody's. `recorded`: whether the
-- purge records have to be in the chains already. The cheap reasons come first, and alone.
CREATE FUNCTION purge_obstacles(class_name text, of_month date, recorded boolean) RETURNS TABLE (reason text, tenant text, detail text)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  class signet.retention_classes;
  month_ends timestamptz := (of_month + interval '1 month') AT TIME ZONE 'UTC';
  newest timestamptz;
  quiet interval;
  part record;
  proof record;
  found_statement jsonb;
  before_tenant text := coalesce(current_setting('signet.tenant', true), '');
  before_tree text := coalesce(current_setting('signet.tree', true), '');
BEGIN
  SELECT * INTO class FROM signet.retention_classes WHERE name = class_name;
  IF NOT FOUND THEN
    RETURN QUERY SELECT 'no-class', NULL::text, 'there is no such class, or it is one that is never purged';
    RETURN;
  END IF;
  IF to_regclass(format('signet.%I', 'records_' || class_name || to_char(of_month, '"_"YYYY"_"MM'))) IS NULL
     OR of_month <> date_trunc('month', of_month)::date THEN
    RETURN QUERY SELECT 'no-partition', NULL::text, 'the class has no partition of this month';
    RETURN;
  END IF;
  IF class.never THEN
    RETURN QUERY SELECT 'never', NULL::text, 'the policy says that nothing of it is removed';
    RETURN;
  END IF;
  IF now() < month_ends + make_interval(days => class.hot_days) THEN
    RETURN QUERY SELECT 'hot', NULL::text, format('hot until %s', to_char((month_ends + make_interval(days => class.hot_days)) AT TIME ZONE 'UTC', 'YYYY-MM-DD'));
    RETURN;
  END IF;
  -- A clock that leapt ahead would make everything old. The checkpoints say what time it was: none from tomorrow, one of the last two
  -- days, and no leap between two of those that were signed in the last day.
  SELECT max(c.made_at) INTO newest FROM signet.tree_checkpoints c;
  IF newest IS NULL OR now() > newest + interval '48 hours' THEN
    RETURN QUERY SELECT 'clock', NULL::text, format('the clock is more than 48 hours ahead of the last checkpoint (%s)', coalesce(newest::text, 'none'));
    RETURN;
  END IF;
  IF now() < newest - interval '5 minutes' THEN
    RETURN QUERY SELECT 'clock', NULL::text, 'a checkpoint is of a later time than the clock of the database';
    RETURN;
  END IF;
  SELECT max(g.made_at - g.before) INTO quiet
    FROM (SELECT c.made_at, lag(c.made_at) OVER (ORDER BY c.size) AS before FROM signet.tree_checkpoints c
           WHERE c.size >= coalesce((SELECT max(o.size) FROM signet.tree_checkpoints o WHERE o.made_at < now() - interval '24 hours'), 0)) AS g;
  IF quiet > interval '48 hours' THEN
    RETURN QUERY SELECT 'clock', NULL::text, format('within the last 24 hours the checkpoints leapt ahead by %s: purges wait for a day', quiet);
    RETURN;
  END IF;
  PERFORM set_config('signet.tree', 'on', true);
  FOR part IN SELECT * FROM signet.retention_tenants(class_name, of_month) LOOP
    PERFORM set_config('signet.tenant', part.tenant, true);
    RETURN QUERY
      SELECT 'held', part.tenant, format('legal hold %s: %s', h.id, h.reason) FROM signet.legal_holds h
       WHERE h.tenant = part.tenant AND (h.from_month IS NULL OR of_month >= h.from_month) AND (h.to_month IS NULL OR of_month <= h.to_month)
         AND NOT EXISTS (SELECT FROM signet.legal_hold_releases e WHERE e.tenant = h.tenant AND e.id = h.id)
         AND ((h.data_domains IS NULL AND h.regions IS NULL) OR EXISTS (
               SELECT FROM signet.records r WHERE r.tenant = part.tenant AND r.retention_class = class_name AND r.month = of_month
                AND (h.data_domains IS NULL OR r.data_domain = ANY(h.data_domains)) AND (h.regions IS NULL OR r.region = ANY(h.regions))));
    IF (SELECT count(*) FROM signet.links l WHERE l.tenant = part.tenant AND l.seq BETWEEN part.first_seq AND part.last_seq
          AND l.retention_class = class_name AND l.month = of_month) <> part.records THEN
      RETURN QUERY SELECT 'incomplete', part.tenant, 'links and records of this month do not match: the chain has to be verified';
    END IF;
    IF to_regclass('signet.archive_proofs') IS NULL THEN
      RETURN QUERY SELECT 'not-archived', part.tenant, 'there is no archive';
      CONTINUE;
    END IF;
    SELECT max(p.retain_until) AS retain_until INTO proof FROM signet.archive_proofs p
     WHERE p.tenant = part.tenant AND p.retention_class = class_name AND p.month = of_month AND p.records = part.records
       AND p.first_seq = part.first_seq AND p.last_seq = part.last_seq AND p.verified_at IS NOT NULL AND p.verified_at <= now()
       AND EXISTS (SELECT FROM signet.tree_checkpoints c WHERE c.size = p.tree_size)
       AND EXISTS (SELECT FROM signet.tree_runs t WHERE t.tenant = part.tenant AND part.last_seq >= t.first_seq
                    AND part.last_seq < t.first_seq + t.count AND t.first_leaf + part.last_seq - t.first_seq < p.tree_size);
    IF proof.retain_until IS NULL THEN
      RETURN QUERY SELECT 'not-archived', part.tenant, format('no verified archive has records %s to %s of this month', part.first_seq, part.last_seq);
    ELSIF proof.retain_until < month_ends + make_interval(days => class.archive_days) THEN
      RETURN QUERY SELECT 'archive-short', part.tenant, format('the archive is locked until %s, and has to be until %s',
        to_char(proof.retain_until AT TIME ZONE 'UTC', 'YYYY-MM-DD'),
        to_char((month_ends + make_interval(days => class.archive_days)) AT TIME ZONE 'UTC', 'YYYY-MM-DD'));
    END IF;
    IF recorded THEN
      SELECT a.statement INTO found_statement FROM signet.purge_authorization(part.tenant, class_name, of_month) a;
      IF NOT FOUND THEN
        RETURN QUERY SELECT 'not-recorded', part.tenant, 'no signed purge record of this month is in the chain and in a checkpoint';
      ELSIF (found_statement ->> 'records')::bigint <> part.records OR (found_statement ->> 'first_seq')::bigint <> part.first_seq
         OR (found_statement ->> 'last_seq')::bigint <> part.last_seq
         OR (found_statement -> 'blocks') IS DISTINCT FROM signet.purge_blocks(part.tenant, class_name, of_month, part.first_seq, part.last_seq,
              (found_statement ->> 'width')::integer)
         OR NOT EXISTS (SELECT FROM signet.archive_proofs p WHERE p.tenant = part.tenant AND p.retention_class = class_name
              AND p.month = of_month AND p.snapshot::text = found_statement ->> 'snapshot' AND p.records = part.records) THEN
        RETURN QUERY SELECT 'not-recorded', part.tenant, 'the purge record in the chain is of other records than are there';
      END IF;
    END IF;
  END LOOP;
  PERFORM set_config('signet.tenant', before_tenant, true);
  PERFORM set_config('signet.tree', before_tree, true);
END $$;

-- Drops one month of one class, or refuses with the first reason why not. There is no other way by which a record leaves the wall.
-- Gives how many records went.
CREATE FUNCTION purge_month(class_name text, of_month date) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '500ms' AS $$
DECLARE
  tries integer := 0;
  obstacle record;
  part record;
  allowed record;
  gone bigint := 0;
  suffix text := to_char(of_month, '"_"YYYY"_"MM');
  before_tenant text := coalesce(current_setting('signet.tenant', true), '');
  before_tree text := coalesce(current_setting('signet.tree', true), '');
BEGIN
  -- A hold that is being placed is seen, or comes after. And nothing is written any more to what is looked at.
  PERFORM pg_advisory_xact_lock(hashtextextended('signet.retention', 0));
  IF to_regclass(format('signet.%I', 'records_' || class_name || suffix)) IS NOT NULL THEN
    EXECUTE format('LOCK TABLE signet.%I IN SHARE MODE', 'records_' || class_name || suffix);
  END IF;
  SELECT * INTO obstacle FROM signet.purge_obstacles(class_name, of_month, true) LIMIT 1;
  IF FOUND THEN
    RAISE EXCEPTION 'purge of % of % refused: %', class_name, to_char(of_month, 'YYYY-MM'), obstacle.reason
      USING ERRCODE = 'insufficient_privilege', DETAIL = obstacle.detail;
  END IF;
  PERFORM set_config('signet.tree', 'on', true);
  FOR part IN SELECT * FROM signet.retention_tenants(class_name, of_month) LOOP
    PERFORM set_config('signet.tenant', part.tenant, true);
    SELECT * INTO STRICT allowed FROM signet.purge_authorization(part.tenant, class_name, of_month);
    INSERT INTO signet.purges (tenant, retention_class, month, first_seq, last_seq, records, authorized_seq, snapshot)
      VALUES (part.tenant, class_name, of_month, part.first_seq, part.last_seq, part.records, allowed.seq, (allowed.statement ->> 'snapshot')::uuid);
    INSERT INTO signet.purged_sessions (tenant, session, producer_id, spool_seq, retention_class, month)
      SELECT part.tenant, r.session, (array_agg(r.producer_id ORDER BY r.spool_seq DESC))[1], max(r.spool_seq), class_name, of_month
        FROM signet.records r WHERE r.tenant = part.tenant AND r.retention_class = class_name AND r.month = of_month
         AND r.session IS NOT NULL AND r.spool_seq IS NOT NULL GROUP BY r.session;
    IF (SELECT c.keep_summary FROM signet.retention_classes c WHERE c.name = class_name) THEN
      INSERT INTO signet.purge_summaries (tenant, retention_class, month, day, event_type, outcome, records)
        SELECT part.tenant, class_name, of_month, s.day, CASE WHEN s.place <= 10000 THEN s.event_type ELSE '(others)' END, s.outcome, sum(s.records)
          FROM (SELECT (r.received_at AT TIME ZONE 'UTC')::date AS day, r.event_type, r.outcome, count(*) AS records,
                       row_number() OVER (ORDER BY count(*) DESC) AS place
                  FROM signet.records r WHERE r.tenant = part.tenant AND r.retention_class = class_name AND r.month = of_month
                 GROUP BY 1, 2, 3) AS s
         GROUP BY 4, 5, 6;
    END IF;
    gone := gone + part.records;
  END LOOP;
  PERFORM set_config('signet.tenant', before_tenant, true);
  PERFORM set_config('signet.tree', before_tree, true);
  -- Readers and writers of the class wait for this, half a second at a time at most.
  LOOP
    BEGIN
      EXECUTE format('LOCK TABLE ONLY signet.%I, signet.%I, ONLY signet.%I IN ACCESS EXCLUSIVE MODE',
        'records_' || class_name, 'records_' || class_name || suffix, 'stamps_' || class_name);
      EXIT;
    EXCEPTION WHEN lock_not_available OR deadlock_detected THEN
      tries := tries + 1;
      IF tries >= 20 THEN RAISE; END IF;
      PERFORM pg_sleep(0.25);
    END;
  END LOOP;
  EXECUTE format('DROP TABLE signet.%I', 'records_' || class_name || suffix);
  EXECUTE format('DROP TABLE IF EXISTS signet.%I', 'stamps_' || class_name || suffix);
  RETURN gone;
END $$;

REVOKE ALL ON FUNCTION retention_class_name(integer, integer, boolean, boolean), ensure_retention_class(integer, integer, boolean, boolean),
  retention_months(), retention_tenants(text, date), purge_blocks(text, text, date, bigint, bigint, integer),
  purge_authorization(text, text, date), purge_obstacles(text, date, boolean), purge_month(text, date) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ensure_retention_class(integer, integer, boolean, boolean), retention_months(), retention_tenants(text, date),
  purge_blocks(text, text, date, bigint, bigint, integer), purge_obstacles(text, date, boolean), purge_month(text, date) TO signet_ledger;
GRANT SELECT, INSERT ON class_stamps, legal_holds, legal_hold_releases TO signet_ledger;
GRANT SELECT ON retention_classes, purges, purge_summaries, purged_sessions, stamps TO signet_ledger;
