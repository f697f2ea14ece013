-- A user's authenticator. Until `last_step` says which code was the last, nobody has shown one.
CREATE TABLE second_factors (
    id        TEXT COLLATE "C" NOT NULL PRIMARY KEY REFERENCES users (id) ON DELETE CASCADE, -- the user's
    secret    BYTEA            NOT NULL, -- sealed
    last_step BIGINT
);

CREATE TABLE recovery_codes (
    user_id TEXT COLLATE "C" NOT NULL REFERENCES second_factors (id) ON DELETE CASCADE,
    digest  BYTEA            NOT NULL, -- SHA-256
    PRIMARY KEY (user_id, digest)
);

CREATE TABLE api_tokens (
    id           TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    owner_id     TEXT COLLATE "C" NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    name         TEXT             NOT NULL,
    digest       BYTEA            NOT NULL, -- SHA-256
    scopes       TEXT             NOT NULL, -- JSON
    created_at   BIGINT           NOT NULL,
    expires_at   BIGINT           NOT NULL,
    last_used_at BIGINT
);

CREATE INDEX api_tokens_owner ON api_tokens (owner_id, created_at);
CREATE INDEX api_tokens_expires_at ON api_tokens (expires_at);
