-- Tells every replica that something was revoked, as the transaction that revokes it commits.
CREATE FUNCTION arkeep_tell_revocations() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('arkeep_revocations', '');
    RETURN NULL;
END
$$;

CREATE TRIGGER revocations_told AFTER INSERT OR UPDATE ON revocations
    FOR EACH STATEMENT EXECUTE FUNCTION arkeep_tell_revocations();
