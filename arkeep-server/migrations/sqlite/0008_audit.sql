-- What was done, by whom: a chain that only grows. The hash of each row covers the one before.
CREATE TABLE audit (
    seq           INTEGER NOT NULL PRIMARY KEY CHECK (seq > 0),
    at            INTEGER NOT NULL,
    actor_kind    TEXT    NOT NULL,
    actor_id      TEXT,
    actor_name    TEXT,
    action        TEXT    NOT NULL,
    target_kind   TEXT    NOT NULL,
    target_id     TEXT,
    result        TEXT    NOT NULL,
    address       TEXT,
    request_id    TEXT,
    changes       TEXT    NOT NULL, -- JSON
    previous_hash BLOB    NOT NULL CHECK (length(previous_hash) = 32), -- SHA-256
    hash          BLOB    NOT NULL CHECK (length(hash) = 32) -- SHA-256
) STRICT;

-- Where it ends. Written with each row.
CREATE TABLE audit_head (
    id   INTEGER PRIMARY KEY CHECK (id = 1),
    seq  INTEGER NOT NULL,
    hash BLOB    NOT NULL CHECK (length(hash) = 32) -- SHA-256
) STRICT;

INSERT INTO audit_head (id, seq, hash) VALUES (1, 0, zeroblob(32));

-- Against mistakes of this program; whoever can write to the file can remove them, too.
CREATE TRIGGER audit_is_not_changed BEFORE UPDATE ON audit
BEGIN
    SELECT RAISE(ABORT, 'the audit log only grows');
END;

CREATE TRIGGER audit_is_not_removed BEFORE DELETE ON audit
BEGIN
    SELECT RAISE(ABORT, 'the audit log only grows');
END;
