-- The statements of `embedstream forget`, each under its name.

-- name: standing
SELECT
    EXISTS (SELECT FROM {table} WHERE id = %(id)s) OR EXISTS (SELECT FROM {documents} WHERE id = %(id)s),
    l.topic, l.partition, l."offset", l.updated_at, now()
FROM (SELECT) AS one
LEFT JOIN {ledger} AS l ON l.id = %(id)s

-- name: relations
-- Those that hold texts and vectors, and where their long values lie.
SELECT
    c.oid::regclass::text, coalesce(pg_stat_get_dead_tuples(c.oid), 0),
    greatest(pg_stat_get_last_vacuum_time(c.oid), pg_stat_get_last_autovacuum_time(c.oid))
FROM pg_class AS c
WHERE c.oid IN (
    SELECT unnest(ARRAY[p.oid, p.reltoastrelid]) FROM pg_class AS p
    WHERE p.oid IN (%(table)s::regclass, %(documents)s::regclass)
    OR p.oid IN (SELECT to_regclass(name) FROM unnest(%(others)s::text[]) AS name)
)
ORDER BY 1

-- name: indexes
-- Beside those of the ids.
SELECT indexrelid::regclass::text FROM pg_index
WHERE indrelid IN (%(table)s::regclass, %(documents)s::regclass) AND NOT indisprimary
ORDER BY 1
