-- What a job's holder was sent to do. Its results are read by this and not by the policy, which may
-- have changed since.
ALTER TABLE jobs ADD COLUMN sent TEXT; -- JSON

-- Backups that are with their agents while the server is renewed.
UPDATE jobs SET sent = json_object(
    'repositories', (SELECT json_group_array(json_object('destination_id', d.destination_id, 'path', d.path))
        FROM policy_destinations d WHERE d.policy_id = jobs.policy_id),
    'sources', (SELECT json(p.settings -> '$.sources') FROM policies p WHERE p.id = jobs.policy_id),
    'tags', (SELECT json(p.settings -> '$.tags') FROM policies p WHERE p.id = jobs.policy_id))
WHERE kind = 'backup' AND state IN ('queued', 'leased', 'running')
    AND assigned_destinations IS NOT NULL AND policy_id IS NOT NULL;
