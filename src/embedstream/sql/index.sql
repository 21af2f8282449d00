-- The statements of an index, each under its name: `relation` is what it is on, `dropped_at` the mark of its kind.

-- name: find
-- An index of any name that the queries of its kind use. Who builds one, concurrently or not, holds such a lock on the
-- table; the lock is seen by everybody, the progress only by those who may, and which index is being built by them alone.
SELECT i.name, i.definition, i.bytes, i.operators, i.valid, b.pid, b.phase, b.percent, b.tuples, s.{dropped_at}
FROM {space} AS s
LEFT JOIN (
    SELECT
        c.oid, c.oid::regclass::text AS name, pg_get_indexdef(c.oid) AS definition, pg_relation_size(c.oid) AS bytes,
        opcname::text AS operators, indisvalid AS valid
    FROM pg_index
    JOIN pg_class AS c ON c.oid = indexrelid
    JOIN pg_am AS a ON a.oid = c.relam
    JOIN pg_opclass AS o ON o.oid = indclass[0]
    WHERE indrelid = to_regclass(%(relation)s) AND indpred IS NULL AND amname = %(method)s AND opcname = ANY(%(operators)s)
    AND (%(column)s::text IS NULL OR pg_get_indexdef(c.oid, 1, true) = %(column)s)
    ORDER BY indisvalid DESC, opcname = %(built)s DESC, c.oid
    LIMIT 1
) AS i ON true
LEFT JOIN LATERAL (
    SELECT l.pid, phase, (100.0 * blocks_done / nullif(blocks_total, 0))::float AS percent, tuples_done AS tuples
    FROM pg_locks AS l
    LEFT JOIN pg_stat_progress_create_index AS p ON p.pid = l.pid
    WHERE l.relation = to_regclass(%(relation)s) AND l.granted AND l.mode IN ('ShareLock', 'ShareUpdateExclusiveLock')
    AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
    AND l.pid NOT IN (SELECT pid FROM pg_stat_progress_vacuum UNION ALL SELECT pid FROM pg_stat_progress_analyze)
    AND (coalesce(p.index_relid, 0) = 0 OR p.index_relid = i.oid)
    ORDER BY p.pid IS NULL
    LIMIT 1
) AS b ON true

-- name: others
SELECT c.oid::regclass::text
FROM pg_index
JOIN pg_class AS c ON c.oid = indexrelid
JOIN pg_opclass AS o ON o.oid = indclass[0]
WHERE indrelid = to_regclass(%(relation)s) AND relname = ANY(%(names)s) AND opcname = ANY(%(operators)s)
AND opcname <> %(built)s

-- name: lock
-- Tried, never waited for: building concurrently waits for every transaction there is, and one that waits is one.
SELECT pg_try_advisory_lock(hashtextextended('embedstream index ' || to_regclass(%(table)s)::oid, 0))

-- name: create
CREATE INDEX CONCURRENTLY {index} ON {relation} USING {method} ({column} {operators})

-- name: mark_dropped
UPDATE {space} SET {dropped_at} = now()

-- name: forget_drop
UPDATE {space} SET {dropped_at} = NULL WHERE {dropped_at} IS NOT NULL

-- name: count
SELECT count(*) FROM {table}

-- name: some
-- Each row is as likely as any other: samples of pages are not that, and what is done with these rows reads all anyway.
SELECT id FROM {table} ORDER BY random() LIMIT %(count)s

-- name: count_until
-- Exact as far as it matters, whatever the statistics say; the planner's own estimate beyond.
SELECT greatest(
    (SELECT count(*) FROM (SELECT FROM {table} LIMIT %(enough)s) AS few),
    (SELECT reltuples::bigint FROM pg_class WHERE oid = to_regclass(%(table)s))
)
