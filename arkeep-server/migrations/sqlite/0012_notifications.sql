-- Whom to tell of what.
CREATE TABLE channels (
    id            TEXT    NOT NULL PRIMARY KEY,
    version       INTEGER NOT NULL DEFAULT 1,
    name          TEXT    NOT NULL UNIQUE COLLATE NOCASE,
    kind          TEXT    NOT NULL CHECK (kind IN ('webhook', 'email', 'ntfy', 'healthchecks')),
    config        TEXT    NOT NULL, -- JSON
    secret        BLOB,             -- sealed
    events        TEXT    NOT NULL, -- JSON
    enabled       INTEGER NOT NULL CHECK (enabled IN (0, 1)),
    created_at    INTEGER NOT NULL,
    updated_at    INTEGER NOT NULL,
    -- Of whoever sends: one at a time has the turn.
    turn          INTEGER NOT NULL DEFAULT 0,
    claimed_until INTEGER,
    failures      INTEGER NOT NULL DEFAULT 0, -- in a row
    failing_since INTEGER,
    retry_at      INTEGER
) STRICT;

-- What happened. Written by whatever made it happen, in the same transaction.
CREATE TABLE events (
    seq         INTEGER PRIMARY KEY AUTOINCREMENT,
    type        TEXT    NOT NULL,
    occurred_at INTEGER NOT NULL,
    data        TEXT    NOT NULL -- JSON
) STRICT;

CREATE INDEX events_occurred_at ON events (occurred_at);

-- Who is to be told of it: a row for each event and channel, sent in the order of `seq`.
CREATE TABLE deliveries (
    seq        INTEGER PRIMARY KEY AUTOINCREMENT,
    id         TEXT    NOT NULL UNIQUE,
    channel_id TEXT    NOT NULL REFERENCES channels (id) ON DELETE CASCADE,
    event_seq  INTEGER NOT NULL REFERENCES events (seq),
    state      TEXT    NOT NULL DEFAULT 'pending' CHECK (state IN ('pending', 'delivered', 'given_up')),
    attempts   INTEGER NOT NULL DEFAULT 0,
    error      TEXT,
    created_at INTEGER NOT NULL,
    tried_at   INTEGER,
    ended_at   INTEGER
) STRICT;

CREATE INDEX deliveries_pending ON deliveries (channel_id, seq) WHERE state = 'pending';
CREATE INDEX deliveries_channel ON deliveries (channel_id);
CREATE INDEX deliveries_event ON deliveries (event_seq);
CREATE INDEX deliveries_ended_at ON deliveries (ended_at) WHERE ended_at IS NOT NULL;

CREATE TRIGGER events_told AFTER INSERT ON events
BEGIN
    -- The id is a UUID of version 7.
    INSERT INTO deliveries (id, channel_id, event_seq, created_at)
    SELECT lower(
            substr(printf('%012x', NEW.occurred_at), 1, 8)
            || '-' || substr(printf('%012x', NEW.occurred_at), 9, 4)
            || '-7' || substr(hex(randomblob(2)), 2)
            || '-' || substr('89ab', 1 + (random() & 3), 1) || substr(hex(randomblob(2)), 2)
            || '-' || hex(randomblob(6))),
        c.id, NEW.seq, NEW.occurred_at
    FROM channels c
    WHERE c.enabled = 1 AND EXISTS (SELECT 1 FROM json_each(c.events) wanted
        WHERE wanted.value = NEW.type
            OR (wanted.value = 'security.*' AND NEW.type LIKE 'security.%'));
END;

-- A job that ends, whichever statement ends it. One that was cancelled is no news to who cancelled it.
CREATE TRIGGER jobs_end_told AFTER UPDATE OF state ON jobs
WHEN OLD.state IN ('queued', 'leased', 'running')
    AND NEW.state IN ('succeeded', 'partial', 'failed', 'missed', 'expired')
BEGIN
    INSERT INTO events (type, occurred_at, data)
    VALUES (
        'job.' || CASE NEW.state WHEN 'expired' THEN 'missed' ELSE NEW.state END,
        coalesce(NEW.ended_at, NEW.created_at),
        json_object(
            'job_id', NEW.id,
            'kind', NEW.kind,
            'state', NEW.state,
            'source', NEW.source,
            'attempt', NEW.attempt,
            'policy_id', NEW.policy_id,
            'policy', (SELECT name FROM policies WHERE id = NEW.policy_id),
            'agent_id', NEW.agent_id,
            'agent', (SELECT name FROM agents WHERE id = NEW.agent_id),
            'error', json(NEW.error)));
END;
