-- Nobody changes what the wall is made of by the way: event triggers refuse every definition (CREATE, ALTER, DROP, GRANT …) in this
-- database, to the owner and to superusers too. Two ways are left: the owner-side functions that the ledger calls (partitions, classes,
-- purge), and a migration, which says so (`SET signet.migration = 'on'`) and is written to the server's log, each command of it. A superuser
-- can switch event triggers off: that is found in the log, as an attempt (docs/wall-log.md).
--
-- Only a superuser (or what a managed PostgreSQL has for one) makes event triggers. Where the login of the migration is none, the migration
-- goes on without them, with a warning. Schema, function and triggers belong to that login: what runs with the rights of whoever
-- defines something must not be the owner's to replace.
DO $migration$
DECLARE
  owner_role text := current_user;
BEGIN
  SET LOCAL ROLE NONE;
  CREATE SCHEMA signet_guard;

  CREATE FUNCTION signet_guard.refuse_definition() RETURNS event_trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
  DECLARE
    target text;
    commands text;
  BEGIN
    IF session_user = 'signet_ledger' THEN RETURN; END IF; -- It may define nothing itself: this is a function of the owner's.
    IF tg_event = 'ddl_command_start' THEN
      target := 'a function or schema';
    ELSIF tg_event = 'sql_drop' THEN
      SELECT left(string_agg(DISTINCT coalesce(object_identity, object_type), ', '), 400) INTO target
        FROM pg_event_trigger_dropped_objects() WHERE original AND NOT is_temporary;
    ELSE
      SELECT left(string_agg(DISTINCT coalesce(object_identity, object_type), ', '), 400) INTO target
        FROM pg_event_trigger_ddl_commands()
       WHERE schema_name IS DISTINCT FROM 'pg_temp' AND command_tag NOT IN ('REINDEX', 'REFRESH MATERIALIZED VIEW');
    END IF;
    IF target IS NULL THEN RETURN; END IF;
    IF current_setting('signet.migration', true) = 'on' THEN
      IF tg_event = 'ddl_command_start' THEN RETURN; END IF;
      RAISE LOG 'signet wall: % of % in a migration', tg_tag, target;
      RETURN;
    END IF;
    RAISE EXCEPTION '% of % refused: the audit wall is changed by its migrations only', tg_tag, target
      USING ERRCODE = 'insufficient_privilege';
  END $$;

  CREATE EVENT TRIGGER signet_refuse_definition ON ddl_command_end EXECUTE FUNCTION signet_guard.refuse_definition();
  CREATE EVENT TRIGGER signet_refuse_drop ON sql_drop EXECUTE FUNCTION signet_guard.refuse_definition();
  -- Before it happens: afterwards this function might be another, or gone with its triggers.
  CREATE EVENT TRIGGER signet_refuse_way_out ON ddl_command_start
    WHEN TAG IN ('CREATE FUNCTION', 'ALTER FUNCTION', 'DROP FUNCTION', 'ALTER ROUTINE', 'DROP ROUTINE', 'ALTER SCHEMA', 'DROP SCHEMA', 'DROP OWNED')
    EXECUTE FUNCTION signet_guard.refuse_definition();
  ALTER EVENT TRIGGER signet_refuse_way_out ENABLE ALWAYS;
  ALTER EVENT TRIGGER signet_refuse_definition ENABLE ALWAYS;
  ALTER EVENT TRIGGER signet_refuse_drop ENABLE ALWAYS;
  EXECUTE format('SET LOCAL ROLE %I', owner_role);
EXCEPTION WHEN insufficient_privilege THEN
  RAISE WARNING 'no event triggers on the audit wall: this login may not make them; docs/wall-log.md says who can';
END $migration$;
