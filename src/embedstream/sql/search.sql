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
ORDER BY embedding <=> %(vector)s::real[]::{vector}
LIMIT %(count)s

-- name: nearest_where
SELECT
    1 - (embedding <=> %(vector)s::real[]::{vector}) AS similarity, id, text, source, message_timestamp, metadata
FROM {vectors}
WHERE {where}
ORDER BY embedding <=> %(vector)s::real[]::{vector}
LIMIT %(count)s
