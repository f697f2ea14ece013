-- Replicas of PostgreSQL are told of what happens to agents by triggers. One process needs no telling.
SELECT 1;
