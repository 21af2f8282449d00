-- What the audit sees of a table, by id; filled in for a table of whole texts or of chunks.

-- name: bad_vector
CASE
    WHEN cardinality(embedding) IS DISTINCT FROM %(dimension)s OR array_ndims(embedding) <> 1
        OR array_position(embedding, NULL) IS NOT NULL OR 'NaN' = ANY (embedding)
        OR 'Infinity' = ANY (embedding) OR '-Infinity' = ANY (embedding) THEN true
    WHEN %(normalised)s THEN abs(vector_norm(embedding::vector) - 1) > 1e-3
    ELSE vector_norm(embedding::vector) = 0
END

-- name: rows
SELECT
    id, sha256(convert_to(text, 'UTF8')) AS hash, source, message_timestamp, metadata,
    (model_name, model_revision) <> (%(model_name)s, %(model_revision)s) AS wrong_space,
    {bad_vector} AS bad_vector, false AS bad_chunks
FROM {table} AS t

-- name: chunks
-- Of what stands in one of the two relations alone there is no hash, or no count. That the chunks are those of the text
-- is found out where it is cut again.
SELECT
    id, d.hash, d.source, d.message_timestamp, d.metadata, coalesce(c.wrong_space, false) AS wrong_space,
    coalesce(c.bad_vector, false) AS bad_vector, c.chunks IS DISTINCT FROM d.chunks AS bad_chunks
FROM (
    SELECT
        id, source, message_timestamp, metadata, chunks,
        sha256(CASE
            WHEN prefix = '' THEN convert_to(text, 'UTF8')
            ELSE convert_to(prefix, 'UTF8') || '\x00'::bytea || convert_to(text, 'UTF8')
        END) AS hash
    FROM {documents} AS each
) AS d
FULL JOIN (
    SELECT
        id, count(*) AS chunks, bool_or({bad_vector}) AS bad_vector,
        bool_or((model_name, model_revision) <> (%(model_name)s, %(model_revision)s)) AS wrong_space
    FROM {table} AS each
    GROUP BY id
) AS c USING (id)

-- name: embedded_rows
SELECT id, text, embedding FROM {table} AS t

-- name: embedded_chunks
SELECT id, CASE WHEN d.prefix = '' THEN c.text ELSE d.prefix || E'\n\n' || c.text END AS text, c.embedding
FROM {table} AS c JOIN {documents} AS d USING (id)
