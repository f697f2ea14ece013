-- Ids are UUIDs in their hyphenated form, times are milliseconds since 1970, durations seconds,
-- sizes bytes, flags 0 or 1. A column that holds JSON says so. A sealed column is a BLOB.

CREATE TABLE instance (
    id                 INTEGER PRIMARY KEY CHECK (id = 1),
    setup_token_digest BLOB,
    set_up_at          INTEGER
) STRICT;

INSERT INTO instance (id) VALUES (1);

CREATE TABLE ca (
    id          TEXT    NOT NULL PRIMARY KEY,
    certificate BLOB    NOT NULL,
    private_key BLOB    NOT NULL, -- sealed
    created_at  INTEGER NOT NULL
) STRICT;

CREATE TABLE token_keys (
    id          TEXT    NOT NULL PRIMARY KEY,
    public_key  BLOB    NOT NULL,
    private_key BLOB    NOT NULL, -- sealed
    created_at  INTEGER NOT NULL,
    retired_at  INTEGER
) STRICT;

CREATE TABLE users (
    id            TEXT    NOT NULL PRIMARY KEY,
    version       INTEGER NOT NULL DEFAULT 1,
    email         TEXT    NOT NULL UNIQUE COLLATE NOCASE,
    display_name  TEXT    NOT NULL,
    role          TEXT    NOT NULL CHECK (role IN ('viewer', 'operator', 'admin')),
    enabled       INTEGER NOT NULL DEFAULT 1 CHECK (enabled IN (0, 1)),
    password_hash TEXT,
    last_login_at INTEGER,
    created_at    INTEGER NOT NULL,
    updated_at    INTEGER NOT NULL
) STRICT;

-- What is no longer honoured. A row of kind 'subject' holds the present epoch of a user, outlives
-- the user, and is replaced when the epoch grows, so that `seq` orders every change.
CREATE TABLE revocations (
    seq   INTEGER PRIMARY KEY AUTOINCREMENT,
    kind  TEXT NOT NULL CHECK (kind IN ('token', 'session', 'subject')),
    id    TEXT NOT NULL,
    until INTEGER,
    epoch INTEGER,
    CHECK ((kind = 'subject') = (epoch IS NOT NULL)),
    CHECK ((kind = 'subject') = (until IS NULL)),
    UNIQUE (kind, id)
) STRICT;

CREATE INDEX revocations_until ON revocations (until) WHERE until IS NOT NULL;

CREATE TABLE sessions (
    id           TEXT    NOT NULL PRIMARY KEY,
    user_id      TEXT    NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    auth_time    INTEGER NOT NULL,
    created_at   INTEGER NOT NULL,
    last_used_at INTEGER NOT NULL,
    ends_at      INTEGER NOT NULL,
    ended_at     INTEGER,
    address      TEXT,
    user_agent   TEXT
) STRICT;

CREATE INDEX sessions_user ON sessions (user_id, created_at);
CREATE INDEX sessions_ends_at ON sessions (ends_at);

CREATE TABLE refresh_tokens (
    digest           BLOB    NOT NULL PRIMARY KEY, -- SHA-256
    session_id       TEXT    NOT NULL REFERENCES sessions (id) ON DELETE CASCADE,
    expires_at       INTEGER NOT NULL,
    predecessor      BLOB,
    spent            INTEGER NOT NULL DEFAULT 0 CHECK (spent IN (0, 1)),
    sealed_successor BLOB, -- under a key that the token gives; gone once the successor is spent
    grace_until      INTEGER
) STRICT, WITHOUT ROWID;

CREATE INDEX refresh_tokens_session ON refresh_tokens (session_id);

CREATE TABLE agents (
    id                 TEXT    NOT NULL PRIMARY KEY,
    version            INTEGER NOT NULL DEFAULT 1,
    name               TEXT    NOT NULL UNIQUE COLLATE NOCASE,
    labels             TEXT    NOT NULL, -- JSON
    standing           TEXT    NOT NULL DEFAULT 'pending'
        CHECK (standing IN ('pending', 'trusted', 'awaiting_approval', 'revoked')),
    facts              TEXT    NOT NULL DEFAULT '{}', -- JSON
    approved           INTEGER NOT NULL DEFAULT 0 CHECK (approved IN (0, 1)),
    sessions           INTEGER NOT NULL DEFAULT 0, -- how many streams it has opened
    last_seen_at       INTEGER,
    created_at         INTEGER NOT NULL
) STRICT;

CREATE TABLE certificates (
    serial     TEXT    NOT NULL PRIMARY KEY,
    agent_id   TEXT    NOT NULL REFERENCES agents (id) ON DELETE CASCADE,
    not_before INTEGER NOT NULL,
    not_after  INTEGER NOT NULL,
    issued_at  INTEGER NOT NULL,
    superseded INTEGER NOT NULL DEFAULT 0 CHECK (superseded IN (0, 1))
) STRICT;

CREATE INDEX certificates_agent ON certificates (agent_id, issued_at);

CREATE TABLE join_tokens (
    id            TEXT    NOT NULL PRIMARY KEY,
    agent_id      TEXT    NOT NULL REFERENCES agents (id) ON DELETE CASCADE,
    secret_digest BLOB    NOT NULL,
    created_at    INTEGER,
    expires_at    INTEGER NOT NULL,
    redeemed_at   INTEGER
) STRICT;

CREATE INDEX join_tokens_agent ON join_tokens (agent_id);

CREATE TABLE destinations (
    id                     TEXT    NOT NULL PRIMARY KEY,
    version                INTEGER NOT NULL DEFAULT 1,
    name                   TEXT    NOT NULL UNIQUE COLLATE NOCASE,
    location               TEXT    NOT NULL, -- JSON
    credentials            BLOB,             -- sealed
    credentials_updated_at INTEGER,
    enabled                INTEGER NOT NULL CHECK (enabled IN (0, 1)),
    created_at             INTEGER NOT NULL,
    updated_at             INTEGER NOT NULL
) STRICT;

CREATE TABLE policies (
    id                  TEXT    NOT NULL PRIMARY KEY,
    version             INTEGER NOT NULL DEFAULT 1,
    agent_id            TEXT    NOT NULL REFERENCES agents (id),
    name                TEXT    NOT NULL UNIQUE COLLATE NOCASE,
    enabled             INTEGER NOT NULL CHECK (enabled IN (0, 1)),
    repository_password BLOB    NOT NULL, -- sealed
    settings            TEXT    NOT NULL, -- JSON
    created_at          INTEGER NOT NULL,
    updated_at          INTEGER NOT NULL
) STRICT;

CREATE INDEX policies_agent ON policies (agent_id, id);

CREATE TABLE policy_destinations (
    policy_id      TEXT    NOT NULL REFERENCES policies (id) ON DELETE CASCADE,
    destination_id TEXT    NOT NULL REFERENCES destinations (id),
    position       INTEGER NOT NULL,
    path           TEXT    NOT NULL,
    retention      TEXT, -- JSON
    PRIMARY KEY (policy_id, destination_id)
) STRICT, WITHOUT ROWID;

CREATE INDEX policy_destinations_repository ON policy_destinations (destination_id, path);

CREATE TABLE jobs (
    id                    TEXT    NOT NULL PRIMARY KEY,
    kind                  TEXT    NOT NULL,
    state                 TEXT    NOT NULL DEFAULT 'queued' CHECK (state IN (
        'queued', 'leased', 'running',
        'succeeded', 'partial', 'failed', 'cancelled', 'missed', 'expired')),
    agent_id              TEXT    NOT NULL REFERENCES agents (id) ON DELETE CASCADE,
    policy_id             TEXT             REFERENCES policies (id) ON DELETE SET NULL,
    scheduled_for         INTEGER NOT NULL,
    deadline              INTEGER,
    source                TEXT    NOT NULL,
    parameters            TEXT    NOT NULL, -- JSON
    folds                 INTEGER NOT NULL, -- whether later requests may be counted in it
    folded                INTEGER NOT NULL DEFAULT 0,
    attempt               INTEGER NOT NULL DEFAULT 0,
    fence                 INTEGER NOT NULL DEFAULT 0,
    lease_until           INTEGER,
    applied_sequence      INTEGER NOT NULL DEFAULT 0,
    assigned_destinations TEXT, -- JSON
    created_at            INTEGER NOT NULL,
    started_at            INTEGER,
    ended_at              INTEGER,
    cancel_requested_at   INTEGER,
    error                 TEXT, -- JSON
    results               TEXT NOT NULL DEFAULT '[]', -- JSON
    hooks                 TEXT NOT NULL DEFAULT '[]', -- JSON
    late_result           TEXT  -- JSON
) STRICT;

-- At most one job of a policy and kind waits to begin; what comes meanwhile is folded into it.
CREATE UNIQUE INDEX jobs_waiting ON jobs (policy_id, kind)
    WHERE folds = 1 AND state IN ('queued', 'leased');
CREATE INDEX jobs_open ON jobs (state, agent_id, id) WHERE state IN ('queued', 'leased', 'running');
CREATE INDEX jobs_state ON jobs (state, id);
CREATE INDEX jobs_kind ON jobs (kind, id);
CREATE INDEX jobs_agent ON jobs (agent_id, id);
CREATE INDEX jobs_policy ON jobs (policy_id, id);

-- Which job stands for which tick of a policy: many replicas see a tick, one job is made.
CREATE TABLE job_ticks (
    policy_id     TEXT    NOT NULL REFERENCES policies (id) ON DELETE CASCADE,
    kind          TEXT    NOT NULL,
    scheduled_for INTEGER NOT NULL,
    job_id        TEXT    NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
    PRIMARY KEY (policy_id, kind, scheduled_for)
) STRICT, WITHOUT ROWID;

CREATE INDEX job_ticks_job ON job_ticks (job_id);

-- How far the ticks of each schedule have been seen to.
CREATE TABLE schedule_marks (
    policy_id TEXT    NOT NULL REFERENCES policies (id) ON DELETE CASCADE,
    kind      TEXT    NOT NULL,
    schedule  TEXT    NOT NULL, -- JSON
    up_to     INTEGER NOT NULL,
    PRIMARY KEY (policy_id, kind)
) STRICT, WITHOUT ROWID;

-- How much of a job's log is kept. Lines up to `head_end` stay; those after it are the tail, whose
-- oldest lines make room for new ones.
CREATE TABLE job_logs (
    job_id     TEXT    NOT NULL PRIMARY KEY REFERENCES jobs (id) ON DELETE CASCADE,
    last_seq   INTEGER NOT NULL DEFAULT 0,
    head_end   INTEGER NOT NULL DEFAULT 0,
    head_bytes INTEGER NOT NULL DEFAULT 0,
    tail_bytes INTEGER NOT NULL DEFAULT 0
) STRICT, WITHOUT ROWID;

CREATE TABLE job_log_attempts (
    job_id   TEXT    NOT NULL REFERENCES job_logs (job_id) ON DELETE CASCADE,
    attempt  INTEGER NOT NULL,
    last_seq INTEGER NOT NULL,
    PRIMARY KEY (job_id, attempt)
) STRICT, WITHOUT ROWID;

CREATE TABLE job_log_lines (
    job_id  TEXT    NOT NULL REFERENCES job_logs (job_id) ON DELETE CASCADE,
    seq     INTEGER NOT NULL,
    attempt INTEGER NOT NULL,
    at      INTEGER NOT NULL,
    level   TEXT    NOT NULL,
    source  TEXT    NOT NULL,
    text    TEXT    NOT NULL,
    PRIMARY KEY (job_id, seq)
) STRICT, WITHOUT ROWID;

CREATE TABLE snapshots (
    id              TEXT    NOT NULL PRIMARY KEY,
    restic_id       TEXT    NOT NULL,
    policy_id       TEXT    NOT NULL REFERENCES policies (id) ON DELETE CASCADE,
    agent_id        TEXT    NOT NULL REFERENCES agents (id) ON DELETE CASCADE,
    destination_id  TEXT    NOT NULL REFERENCES destinations (id),
    path            TEXT    NOT NULL, -- the repository's, below the destination's place
    job_id          TEXT             REFERENCES jobs (id) ON DELETE SET NULL,
    taken_at        INTEGER NOT NULL,
    hostname        TEXT    NOT NULL,
    paths           TEXT    NOT NULL, -- JSON
    tags            TEXT    NOT NULL, -- JSON
    bytes_processed INTEGER NOT NULL,
    bytes_added     INTEGER NOT NULL,
    files           INTEGER NOT NULL,
    verified_at     INTEGER,
    present         INTEGER NOT NULL DEFAULT 1 CHECK (present IN (0, 1)),
    UNIQUE (policy_id, destination_id, restic_id)
) STRICT;

CREATE INDEX snapshots_policy ON snapshots (policy_id, id);
CREATE INDEX snapshots_agent ON snapshots (agent_id, id);
CREATE INDEX snapshots_destination ON snapshots (destination_id, id);
CREATE INDEX snapshots_job ON snapshots (job_id);
