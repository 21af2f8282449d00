-- The statements of the search, each under its name. `key` is what identifies a row: the id, or id and chunk_key.

-- name: widen
-- The literal loads pgvector, without which its settings are not known; older versions lack some of them.
-- Iterative scans go on until LIMIT is reached: else the index gives ef_search rows at most, and the filter takes some.
SELECT
    CASE WHEN current_setting('hnsw.iterative_scan', true) IS NOT NULL
    THEN set_config('hnsw.iterative_scan', 'relaxed_order', true) END,
    CASE WHEN current_setting('hnsw.ef_search', true) IS NOT NULL
    THEN set_config('hnsw.ef_search', least(1000, greatest(
        coalesce(%(ef_search)s, current_setting('hnsw.ef_search')::int), %(candidates)s
    ))::text, true) END
WHERE '[0]'::vector IS NOT NULL

-- name: exact
-- The vector index is nobody's last resort: where both are off, the planner would weigh them again.
SELECT set_config('enable_indexscan', 'off', true), set_config('enable_seqscan', 'on', true)

-- name: alone
SET LOCAL max_parallel_workers_per_gather = 0

-- name: like
-- Of a document the middle of its chunks.
SELECT avg(embedding)::real[] FROM {vectors} WHERE id = %(id)s

-- name: nearest
-- The distance is computed once a row: what stands in SELECT and in ORDER BY would be computed twice.
SELECT {key}, (1 - distance)::float8
FROM (
    SELECT {key}, embedding <=> %(vector)s::real[]::{vector} AS distance
    FROM {vectors}
    WHERE {filter}
    ORDER BY distance
    LIMIT %(window)s
) AS nearest
ORDER BY distance, {key}

-- name: nearest_reranked
-- The index tells who may be near, the vectors themselves who is.
SELECT {key}, (1 - distance)::float8
FROM (
    SELECT {key}, embedding <=> %(vector)s::real[]::{vector} AS distance
    FROM (
        SELECT {key}, embedding FROM {vectors} WHERE {filter} ORDER BY {nearness} LIMIT %(candidates)s
    ) AS candidates
    ORDER BY distance
    LIMIT %(window)s
) AS nearest
ORDER BY distance, {key}

-- name: nearest_exactly
SELECT {key}, (1 - distance)::float8
FROM (
    SELECT {key}, embedding <=> %(vector)s::real[]::{vector} AS distance
    FROM {vectors}
    WHERE {filter}
) AS nearest
ORDER BY distance, {key}
LIMIT %(window)s

-- name: nearest_documents
SELECT id, (1 - min(distance))::float8
FROM (
    SELECT id, embedding <=> %(vector)s::real[]::{vector} AS distance
    FROM {vectors}
    WHERE {filter}
) AS nearest
GROUP BY id
ORDER BY min(distance), id
LIMIT %(window)s

-- name: best_chunks
-- Of each document, whatever the index missed of it.
WITH chunks AS MATERIALIZED (
    SELECT id, chunk_key, embedding <=> %(vector)s::real[]::{vector} AS distance
    FROM {vectors}
    WHERE id = ANY(%(ids)s::text[]) AND {filter}
),
best AS (
    SELECT DISTINCT ON (id) id, chunk_key, distance FROM chunks ORDER BY id, distance, chunk_key
)
SELECT
    id, chunk_key, (1 - distance)::float8,
    (SELECT count(*) FROM chunks WHERE chunks.id = best.id AND chunks.distance <= (SELECT max(distance) FROM best))
FROM best

-- name: matching
-- A word that very many texts have costs seconds to rank: the first of them have to do.
WITH matching AS MATERIALIZED (
    SELECT {key}, {words} AS words
    FROM {vectors}
    WHERE {words} @@ websearch_to_tsquery('simple', %(matching)s) AND {filter}
    LIMIT %(bound)s::bigint
)
SELECT {key}, ts_rank(words, websearch_to_tsquery('simple', %(matching)s), 1)::float8 AS rank,
    (SELECT count(*) FROM matching)
FROM matching
ORDER BY rank DESC, {key}
LIMIT %(window)s

-- name: rows
SELECT id, text, source, message_timestamp, metadata, truncated, {headline}
FROM {vectors}
WHERE id = ANY(%(ids)s::text[])

-- name: chunks
SELECT id, chunk_key, text, source, message_timestamp, metadata, truncated, {headline}, seq, start, "end"
FROM unnest(%(ids)s::text[], %(keys)s::bytea[]) AS wanted (id, chunk_key) JOIN {vectors} USING (id, chunk_key)
