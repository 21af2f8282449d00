-- A sample of the table for its map, each statement under its name; `key` is what identifies a row.

-- name: size
-- Exact as far as it matters, whatever the statistics say; the planner's own estimate beyond.
SELECT greatest(
    (SELECT count(*) FROM (SELECT FROM {table} LIMIT %(enough)s) AS few),
    (SELECT reltuples::bigint FROM pg_class WHERE oid = to_regclass({table_name}))
)

-- name: sample
-- The same rows each time, as long as nothing is written. A view cannot be sampled.
SELECT id, left(text, %(characters)s), length(text), source, metadata, embedding::real[]
FROM (
    SELECT {key} FROM {table} TABLESAMPLE {sampling} (%(percent)s::real) REPEATABLE (7) LIMIT %(most)s
) AS chosen
JOIN {vectors} USING ({key})
ORDER BY {key}
