-- What was done, by whom: a chain that only grows. The hash of each row covers the one before.
CREATE TABLE audit (
    seq           BIGINT NOT NULL PRIMARY KEY CHECK (seq > 0),
    at            BIGINT NOT NULL,
    actor_kind    TEXT   NOT NULL,
    actor_id      TEXT,
    actor_name    TEXT,
    action        TEXT   NOT NULL,
    target_kind   TEXT   NOT NULL,
    target_id     TEXT,
    result        TEXT   NOT NULL,
    address       TEXT,
    request_id    TEXT,
    changes       TEXT   NOT NULL, -- JSON
    previous_hash BYTEA  NOT NULL CHECK (length(previous_hash) = 32), -- SHA-256
    hash          BYTEA  NOT NULL CHECK (length(hash) = 32) -- SHA-256
);

-- Where it ends. Written with each row.
CREATE TABLE audit_head (
    id   INTEGER PRIMARY KEY CHECK (id = 1),
    seq  BIGINT NOT NULL,
    hash BYTEA  NOT NULL CHECK (length(hash) = 32) -- SHA-256
);

INSERT INTO audit_head (id, seq, hash) VALUES (1, 0, decode(repeat('00', 32), 'hex'));

-- Against mistakes of this program; whoever owns the table can remove it, too.
CREATE FUNCTION arkeep_audit_only_grows() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'the audit log only grows';
END
$$;

CREATE TRIGGER audit_only_grows BEFORE UPDATE OR DELETE OR TRUNCATE ON audit
    FOR EACH STATEMENT EXECUTE FUNCTION arkeep_audit_only_grows();
