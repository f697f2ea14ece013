-- Policies without a snapshot as young as they promise: one row for each time that this began.
CREATE TABLE overdue_policies (
    policy_id    TEXT    NOT NULL PRIMARY KEY REFERENCES policies (id) ON DELETE CASCADE,
    since        INTEGER NOT NULL,
    last_good_at INTEGER
) STRICT, WITHOUT ROWID;

CREATE INDEX snapshots_policy_taken_at ON snapshots (policy_id, taken_at);

CREATE TRIGGER overdue_policies_told AFTER INSERT ON overdue_policies
BEGIN
    INSERT INTO events (type, occurred_at, data)
    SELECT 'policy.overdue', NEW.since, json_object(
        'policy_id', p.id,
        'policy', p.name,
        'agent_id', p.agent_id,
        'agent', (SELECT name FROM agents WHERE id = p.agent_id),
        'max_age', p.settings -> '$.max_age',
        'last_good_at', NEW.last_good_at)
    FROM policies p WHERE p.id = NEW.policy_id;
END;

-- Agents that were heard of once and are not now, in the same way.
CREATE TABLE absent_agents (
    agent_id   TEXT    NOT NULL PRIMARY KEY REFERENCES agents (id) ON DELETE CASCADE,
    seen_at    INTEGER NOT NULL,
    noticed_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TRIGGER absent_agents_told AFTER INSERT ON absent_agents
BEGIN
    INSERT INTO events (type, occurred_at, data)
    SELECT 'agent.offline', NEW.noticed_at, json_object(
        'agent_id', a.id,
        'agent', a.name,
        'last_seen_at', NEW.seen_at)
    FROM agents a WHERE a.id = NEW.agent_id;
END;

-- One that is removed or revoked does not come back.
CREATE TRIGGER absent_agents_back_told AFTER DELETE ON absent_agents
BEGIN
    INSERT INTO events (type, occurred_at, data)
    SELECT 'agent.online', a.last_seen_at, json_object(
        'agent_id', a.id,
        'agent', a.name,
        'last_seen_at', OLD.seen_at)
    FROM agents a WHERE a.id = OLD.agent_id AND a.standing = 'trusted';
END;
