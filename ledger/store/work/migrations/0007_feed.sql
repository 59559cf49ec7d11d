-- How far each tenant's chain was handed on to a Kafka topic, and which process hands on: another takes over when its time is up.
CREATE TABLE feed_duty (
  topic         text        PRIMARY KEY,
  claimed_by    uuid,
  claimed_until timestamptz
);
CREATE TABLE feed_cursors (
  topic  text   NOT NULL,
  tenant text   NOT NULL,
  -- The broker has everything up to this link.
  seq    bigint NOT NULL CHECK (seq >= 0),
  PRIMARY KEY (topic, tenant)
);

GRANT SELECT, INSERT, UPDATE ON feed_duty, feed_cursors TO signet_ledger;
