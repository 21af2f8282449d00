-- The statements of a store of chunks, each under its name; those of statements.sql that it shares are not repeated.

-- name: look_up
-- A document that lacks one of its chunks counts as one that is not there.
SELECT
    l.id, l.event_time, l.topic, l.partition, l."offset", l.item,
    CASE WHEN (SELECT d.chunks FROM {documents} AS d WHERE d.id = l.id)
        = (SELECT count(*) FROM {table} AS t WHERE t.id = l.id) THEN l.content_hash END
FROM unnest(%(ids)b::text[]) AS asked (id)
CROSS JOIN LATERAL (SELECT * FROM {ledger} AS l WHERE l.id = asked.id COLLATE "C" LIMIT 1) AS l

-- name: look_up_chunks
SELECT
    asked.id, (SELECT l.content_hash FROM {ledger} AS l WHERE l.id = asked.id COLLATE "C"),
    ARRAY(SELECT t.chunk_key FROM {table} AS t WHERE t.id = asked.id COLLATE "C")
FROM unnest(%(ids)b::text[]) AS asked (id)

-- name: read_text
SELECT d.text FROM {documents} AS d JOIN {ledger} AS l USING (id)
WHERE id = %(id)s AND l.content_hash = %(content_hash)b

-- name: basis
-- A document wins only where the chunks that stand there are those that were looked up: they follow from the text, whose
-- hash is compared under the lock.
excluded.state = 'deleted' OR l.content_hash IS NOT DISTINCT FROM
    (%(basis)b::bytea[])[array_position(%(id)b::text[], excluded.id)]

-- name: put
INSERT INTO {documents} (id, text, prefix, source, message_timestamp, metadata, chunks, unseen)
SELECT id, text, prefix, source, message_timestamp, metadata::jsonb, chunks, unseen
FROM unnest(
    %(id)b::text[], %(text)b::text[], %(prefix)b::text[], %(source)b::text[], %(message_timestamp)b::timestamptz[],
    %(metadata)b::text[], %(chunks)b::integer[], %(unseen)b::integer[]
) AS i (id, text, prefix, source, message_timestamp, metadata, chunks, unseen)
ORDER BY id COLLATE "C"
ON CONFLICT (id) DO UPDATE SET
    text = excluded.text, prefix = excluded.prefix, source = excluded.source,
    message_timestamp = excluded.message_timestamp, metadata = excluded.metadata, chunks = excluded.chunks,
    unseen = excluded.unseen

-- name: drop
DELETE FROM {table} AS t
USING unnest(%(id)b::text[], %(key)b::bytea[]) AS gone (id, key)
WHERE t.id = gone.id COLLATE "C" AND t.chunk_key = gone.key

-- name: copy_new
COPY {table} (
    id, chunk_key, seq, start, "end", text, embedding, model_name, model_revision, embedding_timestamp, token_count,
    truncated
) FROM STDIN (FORMAT binary)

-- name: add
-- The vectors lie one after the other in one array.
INSERT INTO {table} (
    id, chunk_key, seq, start, "end", text, embedding, model_name, model_revision, embedding_timestamp, token_count,
    truncated
)
SELECT
    id, key, seq, start, "end", text, (%(vectors)b::real[])[first:last], %(model_name)s, %(model_revision)s, now(),
    token_count, truncated
FROM unnest(
    %(id)b::text[], %(key)b::bytea[], %(seq)b::integer[], %(start)b::integer[], %(end)b::integer[], %(text)b::text[],
    %(first)b::integer[], %(last)b::integer[], %(token_count)b::integer[], %(truncated)b::boolean[]
) AS i (id, key, seq, start, "end", text, first, last, token_count, truncated)
ON CONFLICT (id, chunk_key) DO UPDATE SET
    seq = excluded.seq, start = excluded.start, "end" = excluded."end", text = excluded.text,
    embedding = excluded.embedding, model_name = excluded.model_name, model_revision = excluded.model_revision,
    embedding_timestamp = excluded.embedding_timestamp, token_count = excluded.token_count,
    truncated = excluded.truncated

-- name: move
UPDATE {table} AS t
SET seq = i.seq, start = i.start, "end" = i."end"
FROM unnest(%(id)b::text[], %(key)b::bytea[], %(seq)b::integer[], %(start)b::integer[], %(end)b::integer[])
    AS i (id, key, seq, start, "end")
WHERE t.id = i.id COLLATE "C" AND t.chunk_key = i.key
AND (t.seq, t.start, t."end") IS DISTINCT FROM (i.seq, i.start, i."end")

-- name: delete_chunks
DELETE FROM {table} WHERE id = ANY(%(id)b::text[])

-- name: count_chunks
-- With what they are of: the ledger is locked by now, and nobody moves the table to another space. One that is of another
-- may have as many chunks.
SELECT
    (SELECT count(*) FROM {table} WHERE id = ANY(%(id)b::text[])),
    (SELECT (model_name, model_revision) = (%(model_name)s, %(model_revision)s) FROM {space})

-- name: pin_splitting
UPDATE {space} SET splitting = %s

-- name: read_splitting
SELECT splitting FROM {space}
