-- The statements of a message's journey, each under its name; `outcomes` is the audit's.

-- name: entries
SELECT id, state, event_time, topic, partition, "offset", item, updated_at FROM {ledger} WHERE id = ANY(%(ids)s)

-- name: home
-- Where the version that stands came from, as long as its place says something.
SELECT partition, "offset" FROM {ledger} WHERE id = %(id)s AND topic = %(topic)s AND partition >= 0

-- name: list_outcomes
-- Of what asks for nothing there is no id.
SELECT partition, "offset", item, content_hash, outcome, stage, code
FROM ({outcomes}) AS o
WHERE id = ANY(%(ids)s) OR id IS NULL

-- name: list_verdicts
SELECT id, CASE WHEN older AND kind IS NOT NULL THEN 'older_mapping' ELSE kind END, origin
FROM verdicts
WHERE id = ANY(%(ids)s)

-- name: row
SELECT
    left(text, %(most)s), char_length(text), source, metadata, message_timestamp, embedding_timestamp, model_name,
    model_revision, token_count, truncated, NULL, 0
FROM {table}
WHERE id = %(id)s

-- name: document
-- Of what stands in one of the two relations alone the other half is not known.
SELECT
    left(d.text, %(most)s), char_length(d.text), d.source, d.metadata, d.message_timestamp, c.embedding_timestamp,
    c.model_name, c.model_revision, c.token_count, c.truncated, coalesce(c.chunks, 0), d.unseen
FROM (SELECT * FROM {documents} WHERE id = %(id)s) AS d
FULL JOIN (
    SELECT
        id, max(embedding_timestamp) AS embedding_timestamp, max(model_name) AS model_name,
        max(model_revision) AS model_revision, sum(token_count) AS token_count, bool_or(truncated) AS truncated,
        count(*) AS chunks
    FROM {table}
    WHERE id = %(id)s
    GROUP BY id
) AS c USING (id)
