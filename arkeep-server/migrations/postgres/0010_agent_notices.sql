-- Tells every replica what was done to an agent, or to a job of one, as it commits. The replica that
-- holds the agent's stream looks for itself.
CREATE FUNCTION arkeep_tell_agents() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_TABLE_NAME = 'jobs' THEN
        PERFORM pg_notify('arkeep_agents', NEW.agent_id);
    ELSE
        PERFORM pg_notify('arkeep_agents', OLD.id);
    END IF;
    RETURN NULL;
END
$$;

CREATE TRIGGER agents_removed_told AFTER DELETE ON agents
    FOR EACH ROW EXECUTE FUNCTION arkeep_tell_agents();

-- A new session at one replica ends the older one at another.
CREATE TRIGGER agents_told AFTER UPDATE ON agents
    FOR EACH ROW
    WHEN (OLD.standing IS DISTINCT FROM NEW.standing OR OLD.sessions <> NEW.sessions)
    EXECUTE FUNCTION arkeep_tell_agents();

CREATE TRIGGER jobs_added_told AFTER INSERT ON jobs
    FOR EACH ROW WHEN (NEW.state = 'queued')
    EXECUTE FUNCTION arkeep_tell_agents();

-- One that waits again, one that shall end, and one that ended without its agent, which must be told.
CREATE TRIGGER jobs_told AFTER UPDATE ON jobs
    FOR EACH ROW
    WHEN (OLD.cancel_requested_at IS DISTINCT FROM NEW.cancel_requested_at
        OR (OLD.state <> NEW.state AND NEW.state NOT IN ('leased', 'running')))
    EXECUTE FUNCTION arkeep_tell_agents();
