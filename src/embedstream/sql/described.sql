-- What agents are told of a table and its rows, each statement under its name.

-- name: message
-- A table of chunks has a row for each document beside it; of a broken one the other half is missing.
SELECT
    substr(d.text, %(start)s, %(most)s), char_length(d.text), d.source, d.message_timestamp, max(c.embedding_timestamp),
    d.metadata, max(c.model_name), sum(c.token_count), bool_or(c.truncated), count(*)
FROM {documents} AS d LEFT JOIN {table} AS c USING (id)
WHERE d.id = %(id)s
GROUP BY d.id, d.text, d.source, d.message_timestamp, d.metadata

-- name: patience
SELECT set_config('statement_timeout', %(milliseconds)s, true)

-- name: span
SELECT min(message_timestamp), max(message_timestamp) FROM {documents}

-- name: sample
SELECT metadata FROM {documents} TABLESAMPLE SYSTEM (%(percent)s) LIMIT %(most)s
