-- Replicas of PostgreSQL are told of revocations by a trigger. One process needs no telling.
SELECT 1;
