-- Every action, from intent to outcome (docs/adr/0080). A row is written before the ledger hears of the intent, and in the transaction of
-- the change itself it becomes `committed`: so whatever dies in between, it is known what was meant and whether it was done.
CREATE TABLE actions (
  tenant         text        NOT NULL REFERENCES tenants,
  id             uuid        NOT NULL,
  -- intended → committed | failed | reverted | denied
  state          text        NOT NULL CHECK (state IN ('intended', 'committed', 'failed', 'reverted', 'denied')),
  action         text        NOT NULL,
  resource       text        NOT NULL,
  principal      text        NOT NULL,
  -- Events as they are sent, byte for byte: a second time the ledger knows them again. No intent where something was denied at once.
  intent         text,
  outcome        text,
  started_at     timestamptz NOT NULL DEFAULT now(),
  ended_at       timestamptz,
  -- When the ledger acknowledged the last of them.
  recorded_at    timestamptz,
  PRIMARY KEY (tenant, id)
);
-- What the sweeper looks at; nothing, most of the time.
CREATE INDEX actions_open ON actions (tenant, started_at) WHERE recorded_at IS NULL;
SELECT fence('actions');
GRANT SELECT, INSERT, UPDATE ON actions TO signet_governance;
