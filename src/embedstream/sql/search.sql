-- The statements of the search, each under its name.

-- name: tune
-- The literal loads pgvector, without which its settings are not known; older versions lack some of them.
-- Iterative scans go on until LIMIT is reached: else the index gives ef_search rows at most, and the filter takes some.
SELECT set_config(name, CASE name
    WHEN 'hnsw.iterative_scan' THEN 'relaxed_order'
    ELSE least(1000, greatest(coalesce(%(ef_search)s, setting::int), %(count)s))::text
END, true)
FROM pg_settings
WHERE name IN ('hnsw.iterative_scan', 'hnsw.ef_search') AND '[0]'::vector IS NOT NULL

-- name: exact
SET LOCAL enable_indexscan = off

-- name: nearest
SELECT
    1 - (embedding <=> %(vector)s::real[]::{vector}) AS similarity, id, text, source, message_timestamp, metadata
FROM {vectors}
{filter}
ORDER BY embedding <=> %(vector)s::real[]::{vector}
LIMIT %(count)s

-- name: nearest_documents
-- Of a table of chunks. What is taken from the index are keys alone: there may be many until there are enough documents.
WITH candidates AS MATERIALIZED (
    SELECT id, chunk_key, embedding <=> %(vector)s::real[]::{vector} AS distance
    FROM {vectors}
    {filter}
    ORDER BY embedding <=> %(vector)s::real[]::{vector}
    LIMIT %(candidates)s
),
best AS (
    SELECT * FROM (SELECT DISTINCT ON (id) * FROM candidates ORDER BY id, distance, chunk_key) AS each
    ORDER BY distance, id
    LIMIT %(count)s
),
matching AS (
    SELECT id, count(*) AS chunks FROM candidates
    WHERE distance <= (SELECT max(distance) FROM best)
    GROUP BY id
)
SELECT
    1 - distance, id, text, source, message_timestamp, metadata, seq, start, "end", matching.chunks,
    (SELECT count(*) FROM candidates)
FROM best JOIN matching USING (id) JOIN {vectors} USING (id, chunk_key)
ORDER BY distance, id
