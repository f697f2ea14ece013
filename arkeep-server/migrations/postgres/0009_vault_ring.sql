-- The ring of data keys that all replicas share, encrypted under the key-encryption key, which is
-- not here. Each change takes the next generation.
CREATE TABLE vault_ring (
    id         BIGINT PRIMARY KEY CHECK (id = 1),
    generation BIGINT NOT NULL,
    ring       BYTEA  NOT NULL -- a ring as `arkeep-vault` wraps it
);
