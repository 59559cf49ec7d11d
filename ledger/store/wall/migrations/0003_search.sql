-- Search as the login that row level security holds: only conditions whose functions are LEAKPROOF may use an index there, since others
-- could tell of rows that the policy hides. `left()` is not, so that the indexes over beginnings never served; `md5(text)` is, and it is
-- as short. It finds, it proves nothing: the whole text is compared as well. A version that does not know these indexes works as before.
DROP INDEX records_actor, records_resource, records_request, compliance_stamps_request;
CREATE INDEX records_actor         ON records (tenant, md5(actor), seq DESC);
CREATE INDEX records_resource      ON records (tenant, md5(resource), seq DESC);
CREATE INDEX records_request       ON records (tenant, md5(request_id), seq DESC);
CREATE INDEX records_resource_id   ON records (tenant, md5(resource_id), seq DESC) WHERE resource_id IS NOT NULL;
CREATE INDEX records_producer      ON records (tenant, md5(producer_id), seq DESC);
CREATE INDEX records_type          ON records (tenant, md5(event_type), seq DESC);
-- What went wrong is looked for more often than what went well, and is little.
CREATE INDEX records_outcome       ON records (tenant, outcome, seq DESC) WHERE outcome <> 'allowed' AND outcome <> 'success';
CREATE INDEX compliance_stamps_request ON compliance_stamps (tenant, md5(request_id), seq);

-- The words of a record's `context`, names and values, as `simple` splits them, and one word for the tenant. An index over this function
-- is no further copy of the record: it holds nothing that the bytes do not hold, goes when they go, and there is no column to falsify.
-- Never fails, whatever the bytes are: a record must be written, and what was tampered with must be found by the verifier, not here.
-- Past 64 KiB of record, the first 65,536 characters of the context count (a tsvector has at most 1 MiB).
CREATE FUNCTION context_words(tenant text, bytes bytea) RETURNS tsvector LANGUAGE plpgsql IMMUTABLE COST 2000 AS $$
DECLARE
  -- No word of a text begins so: the parser takes `=` for a space.
  of_tenant tsvector := pg_catalog.array_to_tsvector(ARRAY['=' || pg_catalog.md5(tenant)]);
  context json;
BEGIN
  context := pg_catalog.json_extract_path(
    -- json refuses U+0000 when it reads a string.
    pg_catalog.replace(pg_catalog.convert_from(bytes, 'UTF8'), '\u0000', '\u2400')::json, 'event', 'context');
  IF context IS NULL THEN RETURN of_tenant; END IF;
  IF pg_catalog.length(bytes) <= 65536 THEN
    RETURN pg_catalog.tsvector_concat(of_tenant, pg_catalog.json_to_tsvector('pg_catalog.simple', context, '"all"'));
  END IF;
  RETURN pg_catalog.tsvector_concat(of_tenant,
    pg_catalog.to_tsvector('pg_catalog.simple', pg_catalog.left(context::text, 65536)));
EXCEPTION WHEN OTHERS THEN
  RETURN of_tenant;
END $$;
REVOKE ALL ON FUNCTION context_words(text, bytea) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION context_words(text, bytea) TO signet_ledger;
-- A short list of what is not sorted in yet: a reader goes through all of it, and who adds the last entry sorts it in.
CREATE INDEX records_words ON records USING gin (context_words(tenant, bytes)) WITH (gin_pending_list_limit = 1024);

-- `@@` is not LEAKPROOF either, so that the search for words runs here, as the owner, whom no policy of its own kind holds back; it looks at
-- the tenant of the transaction only, as the policy does. Numbers of the records that hold all the words and meet the other conditions
-- (`columns[i] = vals[i]`, columns as below and no others), in order, past `bound`, at most `max_rows`.
CREATE POLICY owner_searches ON records FOR SELECT TO CURRENT_USER USING (true);
CREATE FUNCTION search_words(words text, columns text[], vals text[], since timestamptz, until timestamptz, bound bigint, ascending boolean, max_rows integer)
RETURNS SETOF bigint LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  tenant_name text := current_setting('signet.tenant', true);
  wanted tsquery := plainto_tsquery('pg_catalog.simple', words);
  conditions text := '';
  highest bigint;
  edge bigint;
  width bigint := 10000;
  missing bigint := max_rows;
  found bigint;
BEGIN
  IF tenant_name IS NULL OR tenant_name = '' OR numnode(wanted) = 0 THEN RETURN; END IF;
  wanted := ('''=' || md5(tenant_name) || '''')::tsquery && wanted;
  FOR i IN 1..coalesce(array_length(columns, 1), 0) LOOP
    IF columns[i] NOT IN ('actor', 'action', 'resource', 'resource_type', 'resource_id', 'stage', 'outcome', 'trace_id', 'request_id',
      'event_type', 'stamp_hash', 'session', 'producer_id', 'region', 'data_domain') THEN
      RAISE EXCEPTION 'no column to search by: %', columns[i];
    END IF;
    -- %L is of unknown type: it takes the column's.
    conditions := conditions || format(' AND %I = %L', columns[i], vals[i]);
    IF columns[i] IN ('actor', 'resource', 'resource_id', 'request_id', 'producer_id', 'event_type') THEN
      conditions := conditions || format(' AND md5(%I) = %L', columns[i], md5(vals[i]));
    END IF;
  END LOOP;
  IF since IS NOT NULL THEN conditions := conditions || format(' AND "timestamp" >= %L::timestamptz', since); END IF;
  IF until IS NOT NULL THEN conditions := conditions || format(' AND "timestamp" < %L::timestamptz', until); END IF;
  -- A word that many records hold would have all of them fetched for the first few: so the search goes on from the bound in windows that
  -- widen. A window is a range of the primary key, which is joined with the index of words before any record is fetched.
  highest := coalesce((SELECT max(seq) FROM signet.records WHERE tenant = tenant_name), 0);
  edge := CASE WHEN ascending THEN coalesce(bound, 0) ELSE least(coalesce(bound, highest + 1), highest + 1) END;
  WHILE missing > 0 AND (CASE WHEN ascending THEN edge < highest ELSE edge > 1 END) LOOP
    RETURN QUERY EXECUTE format(
      'SELECT seq FROM signet.records WHERE tenant = %L AND seq > %s AND seq < %s AND signet.context_words(tenant, bytes) @@ %L::tsquery%s ORDER BY seq %s LIMIT %s',
      tenant_name, CASE WHEN ascending THEN edge ELSE edge - width - 1 END, CASE WHEN ascending THEN edge + width + 1 ELSE edge END,
      wanted, conditions, CASE WHEN ascending THEN 'ASC' ELSE 'DESC' END, missing);
    GET DIAGNOSTICS found = ROW_COUNT;
    missing := missing - found;
    edge := CASE WHEN ascending THEN edge + width ELSE edge - width END;
    width := width * 8;
  END LOOP;
END $$;
REVOKE ALL ON FUNCTION search_words(text, text[], text[], timestamptz, timestamptz, bigint, boolean, integer) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION search_words(text, text[], text[], timestamptz, timestamptz, bigint, boolean, integer) TO signet_ledger;
