-- Where the replacement of the root stands. Two roots are trusted until it has settled.
CREATE TABLE ca_rotation (
    id          INTEGER NOT NULL PRIMARY KEY CHECK (id = 1),
    phase       TEXT    NOT NULL CHECK (phase IN ('settled', 'announced', 'issuing')),
    since       INTEGER NOT NULL,
    old_id      TEXT    NOT NULL REFERENCES ca (id),
    new_id      TEXT             REFERENCES ca (id),
    signs_since INTEGER, -- from when on the newest root that signs has signed; absent for the first
    CHECK ((phase = 'settled') = (new_id IS NULL))
) STRICT;

INSERT INTO ca_rotation (id, phase, since, old_id)
    SELECT 1, 'settled', created_at, id FROM ca ORDER BY created_at DESC, id DESC LIMIT 1;

ALTER TABLE agents ADD COLUMN trust BLOB; -- SHA-256 over the roots that it last said it trusts
