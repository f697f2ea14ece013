CREATE TABLE oidc_providers (
    id            TEXT    NOT NULL PRIMARY KEY,
    version       INTEGER NOT NULL DEFAULT 1,
    name          TEXT    NOT NULL UNIQUE COLLATE NOCASE,
    issuer        TEXT    NOT NULL UNIQUE,
    client_id     TEXT    NOT NULL,
    client_secret BLOB,             -- sealed
    scopes        TEXT    NOT NULL, -- JSON
    role_claim    TEXT,
    role_map      TEXT    NOT NULL, -- JSON
    enabled       INTEGER NOT NULL CHECK (enabled IN (0, 1)),
    created_at    INTEGER NOT NULL,
    updated_at    INTEGER NOT NULL
) STRICT;

-- Which user a login at a provider leads to.
CREATE TABLE identities (
    issuer      TEXT    NOT NULL,
    subject     TEXT    NOT NULL,
    provider_id TEXT    NOT NULL REFERENCES oidc_providers (id) ON DELETE CASCADE,
    user_id     TEXT    NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    created_at  INTEGER NOT NULL,
    PRIMARY KEY (issuer, subject)
) STRICT, WITHOUT ROWID;

CREATE INDEX identities_user ON identities (user_id);
CREATE INDEX identities_provider ON identities (provider_id);

-- Logins on their way through a provider.
CREATE TABLE oidc_logins (
    digest      BLOB    NOT NULL PRIMARY KEY, -- SHA-256
    provider_id TEXT    NOT NULL REFERENCES oidc_providers (id) ON DELETE CASCADE,
    expires_at  INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX oidc_logins_expires_at ON oidc_logins (expires_at);
