-- What a job's holder was sent to do. Its results are read by this and not by the policy, which may
-- have changed since.
ALTER TABLE jobs ADD COLUMN sent TEXT; -- JSON

-- Backups that are with their agents while the server is renewed.
UPDATE jobs SET sent = json_build_object(
    'repositories', (SELECT coalesce(json_agg(json_build_object('destination_id', d.destination_id, 'path', d.path)), '[]')
        FROM policy_destinations d WHERE d.policy_id = jobs.policy_id),
    'sources', (SELECT p.settings::JSON -> 'sources' FROM policies p WHERE p.id = jobs.policy_id),
    'tags', (SELECT p.settings::JSON -> 'tags' FROM policies p WHERE p.id = jobs.policy_id))::TEXT
WHERE kind = 'backup' AND state IN ('queued', 'leased', 'running')
    AND assigned_destinations IS NOT NULL AND policy_id IS NOT NULL;
