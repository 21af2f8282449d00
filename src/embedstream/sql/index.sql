-- The statements of the vector index, each under its name.

-- name: find
-- An index of any name that the view's queries use. Who builds one, concurrently or not, holds such a lock on the table;
-- the lock is seen by everybody, the progress only by those who may.
SELECT i.name, i.definition, i.bytes, i.valid, b.pid, b.phase, b.percent, b.tuples, s.index_dropped_at
FROM {space} AS s
LEFT JOIN (
    SELECT
        c.oid::regclass::text AS name, pg_get_indexdef(c.oid) AS definition, pg_relation_size(c.oid) AS bytes,
        indisvalid AS valid
    FROM pg_index
    JOIN pg_class AS c ON c.oid = indexrelid
    JOIN pg_am AS a ON a.oid = c.relam
    JOIN pg_opclass AS o ON o.oid = indclass[0]
    WHERE indrelid = to_regclass(%(table)s) AND indpred IS NULL AND amname = 'hnsw' AND opcname = %(operators)s
    ORDER BY indisvalid DESC, c.oid
    LIMIT 1
) AS i ON true
LEFT JOIN (
    SELECT l.pid, phase, (100.0 * blocks_done / nullif(blocks_total, 0))::float AS percent, tuples_done AS tuples
    FROM pg_locks AS l
    LEFT JOIN pg_stat_progress_create_index AS p ON p.pid = l.pid
    WHERE l.relation = to_regclass(%(table)s) AND l.granted AND l.mode IN ('ShareLock', 'ShareUpdateExclusiveLock')
    AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
    AND l.pid NOT IN (SELECT pid FROM pg_stat_progress_vacuum UNION ALL SELECT pid FROM pg_stat_progress_analyze)
    ORDER BY p.pid IS NULL
    LIMIT 1
) AS b ON true

-- name: lock
-- Tried, never waited for: building concurrently waits for every transaction there is, and one that waits is one.
SELECT pg_try_advisory_lock(hashtextextended('embedstream index ' || to_regclass(%(table)s)::oid, 0))

-- name: create
CREATE INDEX CONCURRENTLY {index} ON {table} USING hnsw ((embedding::{vector}) {operators})

-- name: mark_dropped
UPDATE {space} SET index_dropped_at = now()

-- name: forget_drop
UPDATE {space} SET index_dropped_at = NULL WHERE index_dropped_at IS NOT NULL

-- name: count
SELECT count(*) FROM {table}

-- name: count_until
-- Exact as far as it matters, whatever the statistics say; the planner's own estimate beyond.
SELECT greatest(
    (SELECT count(*) FROM (SELECT FROM {table} LIMIT %(enough)s) AS few),
    (SELECT reltuples::bigint FROM pg_class WHERE oid = to_regclass(%(table)s))
)
