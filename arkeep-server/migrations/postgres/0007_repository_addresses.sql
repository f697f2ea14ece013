-- One name for one repository, however its place is written. It cannot be made in SQL: rows without
-- one get theirs before somebody needs them.
ALTER TABLE policy_destinations ADD COLUMN repository TEXT COLLATE "C";
ALTER TABLE snapshots ADD COLUMN repository TEXT COLLATE "C";

CREATE INDEX policy_destinations_address ON policy_destinations (repository);
CREATE INDEX policy_destinations_unread ON policy_destinations (policy_id) WHERE repository IS NULL;
CREATE INDEX snapshots_repository ON snapshots (repository);
