CREATE TABLE oidc_providers (
    id            TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    version       BIGINT           NOT NULL DEFAULT 1,
    name          TEXT             NOT NULL,
    issuer        TEXT COLLATE "C" NOT NULL UNIQUE,
    client_id     TEXT             NOT NULL,
    client_secret BYTEA,                     -- sealed
    scopes        TEXT             NOT NULL, -- JSON
    role_claim    TEXT,
    role_map      TEXT             NOT NULL, -- JSON
    enabled       BOOLEAN          NOT NULL,
    created_at    BIGINT           NOT NULL,
    updated_at    BIGINT           NOT NULL
);

CREATE UNIQUE INDEX oidc_providers_name ON oidc_providers (lower(name COLLATE "C"));

-- Which user a login at a provider leads to.
CREATE TABLE identities (
    issuer      TEXT COLLATE "C" NOT NULL,
    subject     TEXT COLLATE "C" NOT NULL,
    provider_id TEXT COLLATE "C" NOT NULL REFERENCES oidc_providers (id) ON DELETE CASCADE,
    user_id     TEXT COLLATE "C" NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    created_at  BIGINT           NOT NULL,
    PRIMARY KEY (issuer, subject)
);

CREATE INDEX identities_user ON identities (user_id);
CREATE INDEX identities_provider ON identities (provider_id);

-- Logins on their way through a provider.
CREATE TABLE oidc_logins (
    digest      BYTEA            NOT NULL PRIMARY KEY, -- SHA-256
    provider_id TEXT COLLATE "C" NOT NULL REFERENCES oidc_providers (id) ON DELETE CASCADE,
    expires_at  BIGINT           NOT NULL
);

CREATE INDEX oidc_logins_expires_at ON oidc_logins (expires_at);
