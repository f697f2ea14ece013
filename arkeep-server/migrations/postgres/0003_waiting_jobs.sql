-- What a job is to do is fixed when it is given to its agent. At most one job of a policy and kind
-- waits that never was, and only into that one is folded what comes meanwhile.
DROP INDEX jobs_waiting;
CREATE UNIQUE INDEX jobs_waiting ON jobs (policy_id, kind)
    WHERE folds AND state = 'queued' AND attempt = 0;

-- What was given out, for those that wait behind it.
CREATE INDEX jobs_given_out ON jobs (policy_id, kind) WHERE state IN ('leased', 'running');
