-- Events do not stay for ever: once they are old, and what rules found in them was resolved long ago, they go.
GRANT DELETE ON compliance_events, compliance_violations, resolution_attempts TO signet_governance;

-- What is not resolved stays, whatever the program says.
CREATE FUNCTION keep_unresolved() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog AS $$
BEGIN
  RAISE EXCEPTION 'violation % is not resolved', OLD.id USING ERRCODE = 'restrict_violation';
END $$;
CREATE TRIGGER keep_unresolved BEFORE DELETE ON compliance_violations FOR EACH ROW WHEN (OLD.state <> 'resolved') EXECUTE FUNCTION keep_unresolved();
