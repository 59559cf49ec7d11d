-- What happened, on its way to Kafka: written in the transaction of what it tells, and deleted once the broker has it.
CREATE TABLE domain_events (
  tenant       text           NOT NULL REFERENCES tenants,
  -- Of one partition key these rise in the order of commits: the writer holds a lock on the key.
  seq          bigint         NOT NULL GENERATED ALWAYS AS IDENTITY,
  id           text           NOT NULL,
  type         text           NOT NULL,
  -- `policies/ID`: what it is about, and with the tenant what order is kept by.
  subject      text           NOT NULL,
  happened_at  text           NOT NULL,
  data         text           NOT NULL,
  created_at   timestamptz(3) NOT NULL DEFAULT now(),
  PRIMARY KEY (tenant, seq)
);

-- Which process hands a tenant's events on, one at a time.
CREATE TABLE domain_event_duty (
  tenant        text        PRIMARY KEY REFERENCES tenants,
  claimed_by    uuid        NOT NULL,
  claimed_until timestamptz NOT NULL
);

SELECT fence('domain_events'), fence('domain_event_duty');
GRANT SELECT, INSERT, DELETE ON domain_events TO signet_governance;
GRANT SELECT, INSERT, UPDATE, DELETE ON domain_event_duty TO signet_governance;

-- Whose events wait, since when, and how many (100,001: more), for the relay and its metrics: across tenants, as the owner, and nothing but that.
CREATE POLICY owner_counts ON domain_events FOR SELECT TO CURRENT_USER USING (true);
CREATE FUNCTION waiting_domain_events() RETURNS TABLE (tenant text, oldest timestamptz, events bigint)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
  SELECT t.tenant, head.created_at, (SELECT count(*) FROM (SELECT FROM signet.domain_events e WHERE e.tenant = t.tenant LIMIT 100001) AS counted)
  FROM signet.tenants t
    JOIN LATERAL (SELECT e.created_at FROM signet.domain_events e WHERE e.tenant = t.tenant ORDER BY e.seq LIMIT 1) AS head ON true
  ORDER BY head.created_at, t.tenant
$$;
REVOKE ALL ON FUNCTION waiting_domain_events() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION waiting_domain_events() TO signet_governance;

-- A scheduled scan is made although the process that began it died: its time stays due until the scan is stored, and a lease keeps others off meanwhile.
ALTER TABLE scan_schedules
  ADD COLUMN run_id uuid,
  ADD COLUMN run_until timestamptz,
  -- How often this time was begun.
  ADD COLUMN run_attempts integer NOT NULL DEFAULT 0;

-- A rule of a file whose id a rule of the API holds is not in force: it is said of that rule.
ALTER TABLE rules ADD COLUMN shadows_file boolean NOT NULL DEFAULT false;
