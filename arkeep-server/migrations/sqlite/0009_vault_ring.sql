-- Replicas of PostgreSQL share a key ring in a table. Beside SQLite it is a file.
SELECT 1;
