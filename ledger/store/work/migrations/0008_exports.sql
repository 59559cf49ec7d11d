-- Telling by e-mail that an export is finished: once, and tried again for a while.
ALTER TABLE exports ADD COLUMN told_at timestamptz, ADD COLUMN tell_attempts integer NOT NULL DEFAULT 0, ADD COLUMN tell_after timestamptz;
CREATE INDEX exports_to_tell ON exports (finished_at) WHERE told_at IS NULL AND finished_at IS NOT NULL AND request ? 'notify';
