-- The statements of the progress, each under its name.

-- name: read
SELECT
    partition, topic_id, cluster_id, next, late, ids, back_from,
    greatest(0, extract(epoch FROM clock_timestamp() - updated_at))::float8, mapped_from
FROM {progress}
WHERE topic = %(topic)s
ORDER BY partition

-- name: stands
SELECT topic, partition, next
FROM {progress}
WHERE (topic, partition) IN (SELECT * FROM unnest(%(topic)b::text[], %(partition)b::integer[]))

-- name: open
INSERT INTO {progress} (topic, partition, next)
SELECT topic, partition, 0 FROM unnest(%(topic)b::text[], %(partition)b::integer[]) AS new (topic, partition)
ON CONFLICT DO NOTHING

-- name: advance
-- Only where the database is not behind what this writer has seen of it: else it went back in time.
UPDATE {progress} AS p
SET
    next = greatest(p.next, n.next), late = p.late + n.late, ids = p.ids + n.ids, back_from = NULL,
    updated_at = CASE WHEN n.next > p.next THEN clock_timestamp() ELSE p.updated_at END
FROM unnest(
    %(topic)b::text[], %(partition)b::integer[], %(next)b::bigint[], %(seen)b::bigint[], %(late)b::bigint[],
    %(ids)b::bigint[]
) AS n (topic, partition, next, seen, late, ids)
WHERE p.topic = n.topic COLLATE "C" AND p.partition = n.partition AND p.next >= n.seen
RETURNING p.topic, p.partition, p.next

-- name: mark
INSERT INTO {progress} AS p (topic, partition, next, back_from)
VALUES (%(topic)s, %(partition)s, 0, %(back_from)s)
ON CONFLICT (topic, partition) DO UPDATE SET back_from = excluded.back_from
WHERE p.next < excluded.back_from

-- name: forgotten
SELECT topic, partition, next, back_from FROM {progress} WHERE back_from > next ORDER BY topic, partition

-- name: terms
SELECT
    table_id::text, version_by, progress_since IS NOT NULL, coalesce(progress_since > '-infinity', false), mapping
FROM {space}

-- name: counts
-- One snapshot: every writer changes all three in one transaction.
SELECT
    (SELECT count(*) FROM {documents}), ledger.ids, ledger.deleted,
    (SELECT sum(ids)::bigint FROM {progress}), (SELECT sum(late)::bigint FROM {progress}),
    EXISTS (SELECT FROM {space} WHERE progress_since > '-infinity') AND NOT EXISTS (SELECT FROM {progress})
FROM (SELECT count(*) AS ids, count(*) FILTER (WHERE state = 'deleted') AS deleted FROM {ledger}) AS ledger

-- name: lock
-- Whoever writes a row writes the ledger first, so that nobody writes any until this transaction ends.
LOCK TABLE {ledger} IN SHARE ROW EXCLUSIVE MODE

-- name: begin
INSERT INTO {progress} AS p (topic, partition, topic_id, cluster_id, next, mapped_from)
SELECT %(topic)s, partition, %(topic_id)s, %(cluster_id)s, next, CASE WHEN %(is_mapped_anew)s THEN next ELSE 0 END
FROM unnest(%(partition)b::integer[], %(next)b::bigint[]) AS new (partition, next)
ON CONFLICT (topic, partition) DO UPDATE SET
    topic_id = excluded.topic_id, cluster_id = excluded.cluster_id, back_from = NULL,
    mapped_from = CASE
        WHEN %(anew)s THEN 0
        WHEN %(is_mapped_anew)s THEN greatest(p.next, excluded.next)
        ELSE p.mapped_from
    END,
    next = CASE WHEN %(anew)s THEN excluded.next ELSE greatest(p.next, excluded.next) END

-- name: begun
UPDATE {space} SET progress_since = now() WHERE progress_since IS NULL OR progress_since = '-infinity'

-- name: recount
-- What is counted from now on starts from what is there.
UPDATE {progress} AS p
SET ids = p.ids + (SELECT count(*) FROM {ledger}) - (SELECT coalesce(sum(ids), 0) FROM {progress})
WHERE (p.topic, p.partition) = (SELECT topic, partition FROM {progress} ORDER BY topic, partition LIMIT 1)

-- name: forget_missing
-- Older than any record of the same time: the record that made the row makes it again.
UPDATE {ledger} AS l SET topic = '', partition = -1, "offset" = -1, item = 0
WHERE state = 'live' AND NOT EXISTS (SELECT FROM {documents} AS d WHERE d.id = l.id)

-- name: adopt
UPDATE {ledger} SET
    topic = '', partition = -1, "offset" = -1, item = 0,
    event_time = CASE WHEN %(version_by)s = 'record' THEN 'epoch' ELSE event_time END
WHERE topic IN (%(topic)s, '') OR %(version_by)s <> (SELECT version_by FROM {space})

-- name: replay
-- Older than any version that their own records get when they are read again, whatever these say of their time.
UPDATE {ledger} AS l SET event_time = '0001-01-02 00:00:00+00', item = -1
FROM unnest(%(partition)b::integer[], %(first)b::bigint[]) AS p (partition, first)
WHERE l.topic = %(topic)s AND l.partition = p.partition AND l."offset" >= p.first

-- name: set_mapping
UPDATE {space} SET mapping = %(mapping)s WHERE mapping IS DISTINCT FROM %(mapping)s::text

-- name: drop_progress
DELETE FROM {progress} WHERE topic = %(topic)s

-- name: set_version_by
UPDATE {space} SET version_by = %(version_by)s
