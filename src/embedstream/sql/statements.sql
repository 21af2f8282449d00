-- The statements of the store, each under its name. None needs more of the session than a pooler gives.
-- Arrays go in binary form (%b): times and bytes cost psycopg up to 200 times as much as text.

-- name: pin_space
-- It keeps progress, but no job has begun.
INSERT INTO {space} (model_name, model_revision, dimension, normalised, max_tokens, version_by, progress_since)
VALUES (%s, %s, %s, %s, %s, %s, '-infinity')
ON CONFLICT DO NOTHING

-- name: read_space
SELECT model_name, model_revision, dimension, normalised, max_tokens FROM {space}

-- name: keep_commit
UPDATE {space} SET hub_commits = hub_commits || jsonb_build_object(model_revision, %s::text)
WHERE hub_commits ->> model_revision IS NULL

-- name: read_commit
SELECT hub_commits ->> model_revision FROM {space}

-- name: read_canary
SELECT canary FROM {space}

-- name: keep_canary
UPDATE {space} SET canary = %s WHERE canary IS NULL

-- name: watch
-- What a writer asks now and then: whether its vectors still belong there, and whether the table is about to move.
SELECT model_name, model_revision, dimension, normalised, max_tokens, to_regclass({migration_name}) IS NOT NULL
FROM {space}

-- name: read_service
SELECT service_url, former_models FROM {space}

-- name: hold
-- Whoever asks for it first in a transaction sees one table under the name until that ends.
LOCK TABLE {table} IN ACCESS SHARE MODE

-- name: limits
-- Of the role or the database, they are meant for queries. And a plan that was made when a table was small would read all
-- of it when it is not: none that does is meant here.
SELECT set_config(name, CASE WHEN starts_with(name, 'enable') THEN 'off' ELSE '0' END, %(local)s)
FROM pg_settings
WHERE name IN (
    'enable_seqscan', 'enable_hashjoin', 'enable_mergejoin', 'statement_timeout', 'transaction_timeout',
    'idle_in_transaction_session_timeout'
)

-- name: look_up
-- One look for each id, in either table: a join may be planned to compare every id with every other.
SELECT
    l.id, l.event_time, l.topic, l.partition, l."offset", l.item,
    CASE WHEN (SELECT true FROM {table} AS t WHERE t.id = l.id) THEN l.content_hash END
FROM unnest(%(ids)b::text[]) AS asked (id)
CROSS JOIN LATERAL (SELECT * FROM {ledger} AS l WHERE l.id = asked.id COLLATE "C" LIMIT 1) AS l

-- name: basis
-- A row without a vector wins only where the stored vector is the one of its very text.
%(all_decided)s OR l.content_hash = excluded.content_hash OR excluded.id = ANY(%(decided_ids)b::text[])

-- name: claim
-- Decides who wins. Rows are locked in the order of their ids, or two batches would deadlock.
-- What brings no vectors of its own needs those that stand there: see `basis`. No EXISTS: it may be planned to read the
-- whole table.
INSERT INTO {ledger} AS l (id, event_time, topic, partition, "offset", item, state, content_hash, updated_at)
SELECT id, event_time, topic, partition, "offset", item, state, content_hash, now()
FROM unnest(
    %(id)b::text[], %(event_time)b::timestamptz[], %(topic)b::text[], %(partition)b::integer[], %(offset)b::bigint[],
    %(item)b::integer[], %(state)b::text[], %(content_hash)b::bytea[], %(decided)b::boolean[]
) AS i (id, event_time, topic, partition, "offset", item, state, content_hash, decided)
WHERE decided OR (SELECT true FROM {documents} AS d WHERE d.id = i.id COLLATE "C")
ORDER BY id COLLATE "C"
ON CONFLICT (id) DO UPDATE SET
    event_time = excluded.event_time, topic = excluded.topic, partition = excluded.partition,
    "offset" = excluded."offset", item = excluded.item, state = excluded.state, content_hash = excluded.content_hash,
    updated_at = excluded.updated_at
WHERE (l.event_time, l.topic, l.partition, l."offset", l.item)
    < (excluded.event_time, excluded.topic, excluded.partition, excluded."offset", excluded.item)
AND ({basis})
RETURNING id, (xmax = 0), updated_at

-- name: is_restricted
SELECT coalesce(row_security_active({table_name}::regclass::oid), false)

-- name: copy_new
COPY {table} (
    id, text, embedding, model_name, model_revision, source, message_timestamp, embedding_timestamp, metadata,
    token_count, truncated
) FROM STDIN (FORMAT binary)

-- name: store
-- The vectors lie one after the other in one array.
INSERT INTO {table} (
    id, text, embedding, model_name, model_revision, source, message_timestamp, embedding_timestamp, metadata,
    token_count, truncated
)
SELECT
    id, text, (%(vectors)b::real[])[first:last], %(model_name)s, %(model_revision)s, source, message_timestamp, now(),
    metadata::jsonb, token_count, truncated
FROM unnest(
    %(id)b::text[], %(text)b::text[], %(first)b::integer[], %(last)b::integer[], %(source)b::text[],
    %(message_timestamp)b::timestamptz[], %(metadata)b::text[], %(token_count)b::integer[], %(truncated)b::boolean[]
) AS i (id, text, first, last, source, message_timestamp, metadata, token_count, truncated)
ORDER BY id COLLATE "C"
ON CONFLICT (id) DO UPDATE SET
    text = excluded.text, embedding = excluded.embedding, model_name = excluded.model_name,
    model_revision = excluded.model_revision, source = excluded.source,
    message_timestamp = excluded.message_timestamp, embedding_timestamp = excluded.embedding_timestamp,
    metadata = excluded.metadata, token_count = excluded.token_count, truncated = excluded.truncated

-- name: keep
UPDATE {documents} AS d
SET source = i.source, message_timestamp = i.message_timestamp, metadata = i.metadata::jsonb
FROM unnest(%(id)b::text[], %(source)b::text[], %(message_timestamp)b::timestamptz[], %(metadata)b::text[])
    AS i (id, source, message_timestamp, metadata)
WHERE d.id = i.id COLLATE "C"

-- name: delete
DELETE FROM {documents} WHERE id = ANY(%(id)b::text[])

-- name: count_rows
SELECT count(*) FROM {documents} WHERE id = ANY(%(id)b::text[])
