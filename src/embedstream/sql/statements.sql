-- The statements of the store, each under its name.

-- name: pin_space
INSERT INTO {space} (model_name, model_revision, dimension, normalised, max_tokens)
VALUES (%s, %s, %s, %s, %s)
ON CONFLICT DO NOTHING

-- name: read_space
SELECT model_name, model_revision, dimension, normalised, max_tokens FROM {space}

-- name: by_primary_key
-- A prepared statement keeps the plan that was made when the table was small, and would read all of it when it is not.
SELECT set_config(name, 'off', false)
FROM unnest(ARRAY['enable_seqscan', 'enable_hashjoin', 'enable_mergejoin']) AS name

-- name: create_incoming
-- One row an id: the ledger's upsert below relies on it, and looks rows up by it.
CREATE TEMPORARY TABLE IF NOT EXISTS incoming (
    id text COLLATE "C" PRIMARY KEY,
    event_time timestamptz, topic text COLLATE "C", partition integer, "offset" bigint,
    state text, content_hash bytea,
    -- What lies here for a moment is neither compressed nor moved out of its page, where it fits.
    text text, embedding real[] STORAGE EXTERNAL, source text, message_timestamp timestamptz, metadata text,
    token_count integer, truncated boolean
) WITH (toast_tuple_target = 8160) ON COMMIT DELETE ROWS

-- name: copy_incoming
COPY incoming FROM STDIN (FORMAT binary)

-- name: look_up
-- One look for each row: a join may be planned to compare every id with every other, EXISTS to read the whole table.
SELECT
    id, event_time, topic, partition, "offset",
    CASE WHEN (SELECT true FROM {table} AS t WHERE t.id = l.id) THEN content_hash END
FROM {ledger} AS l
WHERE id = ANY(%(ids)s)

-- name: claim
-- Decides who wins. Rows are locked in the order of their ids, or two batches would deadlock.
-- A row without a vector wins only where the stored vector is the one of its very text. No EXISTS: see look_up.
INSERT INTO {ledger} AS l (id, event_time, topic, partition, "offset", state, content_hash, updated_at)
SELECT id, event_time, topic, partition, "offset", state, content_hash, now()
FROM incoming AS i
WHERE embedding IS NOT NULL OR state = 'deleted' OR (SELECT true FROM {table} AS t WHERE t.id = i.id)
ORDER BY id
ON CONFLICT (id) DO UPDATE SET
    event_time = excluded.event_time, topic = excluded.topic, partition = excluded.partition,
    "offset" = excluded."offset", state = excluded.state, content_hash = excluded.content_hash,
    updated_at = excluded.updated_at
WHERE (l.event_time, l.topic, l.partition, l."offset")
    < (excluded.event_time, excluded.topic, excluded.partition, excluded."offset")
AND (
    l.content_hash = excluded.content_hash
    OR EXISTS (SELECT FROM incoming AS i WHERE i.id = excluded.id AND (embedding IS NOT NULL OR i.state = 'deleted'))
)
RETURNING id

-- name: store
INSERT INTO {table} (
    id, text, embedding, model_name, model_revision, source, message_timestamp, embedding_timestamp, metadata,
    token_count, truncated
)
SELECT
    id, text, embedding, %(model_name)s, %(model_revision)s, source, message_timestamp, now(), metadata::jsonb,
    token_count, truncated
FROM incoming
WHERE embedding IS NOT NULL AND id = ANY(%(won)s)
ORDER BY id
ON CONFLICT (id) DO UPDATE SET
    text = excluded.text, embedding = excluded.embedding, model_name = excluded.model_name,
    model_revision = excluded.model_revision, source = excluded.source,
    message_timestamp = excluded.message_timestamp, embedding_timestamp = excluded.embedding_timestamp,
    metadata = excluded.metadata, token_count = excluded.token_count, truncated = excluded.truncated

-- name: keep
UPDATE {table} AS t
SET source = i.source, message_timestamp = i.message_timestamp, metadata = i.metadata::jsonb
FROM incoming AS i
WHERE t.id = i.id AND i.embedding IS NULL AND i.state = 'live' AND i.id = ANY(%(won)s)

-- name: delete
DELETE FROM {table} AS t
USING incoming AS i
WHERE t.id = i.id AND i.state = 'deleted' AND i.id = ANY(%(won)s)
