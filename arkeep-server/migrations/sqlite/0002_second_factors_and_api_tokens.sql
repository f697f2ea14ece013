-- A user's authenticator. Until `last_step` says which code was the last, nobody has shown one.
CREATE TABLE second_factors (
    id        TEXT    NOT NULL PRIMARY KEY REFERENCES users (id) ON DELETE CASCADE, -- the user's
    secret    BLOB    NOT NULL, -- sealed
    last_step INTEGER
) STRICT;

CREATE TABLE recovery_codes (
    user_id TEXT NOT NULL REFERENCES second_factors (id) ON DELETE CASCADE,
    digest  BLOB NOT NULL, -- SHA-256
    PRIMARY KEY (user_id, digest)
) STRICT, WITHOUT ROWID;

CREATE TABLE api_tokens (
    id           TEXT    NOT NULL PRIMARY KEY,
    owner_id     TEXT    NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    name         TEXT    NOT NULL,
    digest       BLOB    NOT NULL, -- SHA-256
    scopes       TEXT    NOT NULL, -- JSON
    created_at   INTEGER NOT NULL,
    expires_at   INTEGER NOT NULL,
    last_used_at INTEGER
) STRICT;

CREATE INDEX api_tokens_owner ON api_tokens (owner_id, created_at);
CREATE INDEX api_tokens_expires_at ON api_tokens (expires_at);
