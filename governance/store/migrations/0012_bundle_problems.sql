-- A bundle without one of the policies that are in force is not published any more, so that there is nothing to name.
ALTER TABLE bundle_revisions DROP COLUMN problems;
