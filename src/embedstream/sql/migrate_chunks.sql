-- What a migration does otherwise with a table of chunks: the documents are mirrored, and cut anew. A document of the other
-- table has all its chunks, or their number is null: what it has then are those of a text before, each with the vector of
-- its own text. Whoever writes or removes chunks holds the lock of their document.

-- name: key
id, chunk_key

-- name: make_documents
CREATE TABLE {other_documents} (
    LIKE {documents} INCLUDING COMMENTS INCLUDING COMPRESSION INCLUDING CONSTRAINTS INCLUDING DEFAULTS
    INCLUDING GENERATED INCLUDING STORAGE,
    PRIMARY KEY (id)
);

-- name: blank
0

-- name: same_text
(t.text, t.prefix) = (excluded.text, excluded.prefix)

-- name: leave_out
-- First the documents, for their locks: then no chunk comes that the second statement does not see.
DELETE FROM {other_documents_path} WHERE id = ANY (gone);
DELETE FROM {other_path} WHERE id = ANY (gone)

-- name: held
SELECT given, ARRAY(SELECT c.chunk_key FROM {other} AS c WHERE c.id = given COLLATE "C")
FROM unnest(%(id)b::text[]) AS given

-- name: copy
-- As of a table of whole texts, but for the chunks: they follow in the same transaction.
WITH held AS (
    SELECT {t_columns}
    FROM unnest(%(id)b::text[], %(hash)b::bytea[]) AS i (given, hash) JOIN {documents} AS t ON t.id = i.given COLLATE "C"
    WHERE i.hash = sha256(CASE
        WHEN t.prefix = '' THEN convert_to(t.text, 'UTF8')
        ELSE convert_to(t.prefix, 'UTF8') || '\x00'::bytea || convert_to(t.text, 'UTF8')
    END)
    ORDER BY t.id FOR KEY SHARE OF t
)
INSERT INTO {other_documents} ({columns}, chunks, {of_model}) SELECT {columns}, NULL, {blank} FROM held
ON CONFLICT DO NOTHING

-- name: hold
-- Only where the text is the one that was cut; what somebody else has locked is left to the next pass. One look for each
-- id, as of a table of whole texts.
SELECT o.id
FROM (
    SELECT * FROM unnest(%(id)b::text[], %(hash)b::bytea[]) AS asked (given, hash) ORDER BY given COLLATE "C"
) AS i
CROSS JOIN LATERAL (
    SELECT o.id FROM {other_documents} AS o
    WHERE o.id = i.given COLLATE "C" AND o.chunks IS NULL AND i.hash = sha256(CASE
        WHEN o.prefix = '' THEN convert_to(o.text, 'UTF8')
        ELSE convert_to(o.prefix, 'UTF8') || '\x00'::bytea || convert_to(o.text, 'UTF8')
    END)
    FOR UPDATE SKIP LOCKED
) AS o
WHERE ({model_name}, {model_revision}, %(splitting)b) = (
    SELECT s.model_name, s.model_revision, s.splitting FROM {other_space} AS s
)

-- name: settle_documents
UPDATE {other_documents} AS o SET chunks = i.chunks, unseen = i.unseen
FROM unnest(%(id)b::text[], %(chunks)b::integer[], %(unseen)b::integer[]) AS i (id, chunks, unseen)
WHERE o.id = i.id COLLATE "C"

-- name: differing
-- Documents that are not the same in both tables, or have not as many chunks as they say.
SELECT
    count(*) FILTER (WHERE t.id IS NOT NULL AND o.id IS NULL), count(*) FILTER (WHERE t.id IS NULL),
    count(*) FILTER (WHERE t.id = o.id AND (
        ({t_columns}) IS DISTINCT FROM ({o_columns}) OR o.chunks <> coalesce(c.chunks, 0)
    ))
FROM {documents} AS t
FULL JOIN {other_documents} AS o USING (id)
FULL JOIN (SELECT id, count(*) AS chunks FROM {other} AS each GROUP BY id) AS c USING (id)

-- name: sample
SELECT id, CASE WHEN d.prefix = '' THEN c.text ELSE d.prefix || E'\n\n' || c.text END AS text, c.embedding
FROM {other} AS c JOIN {other_documents} AS d USING (id)
WHERE d.chunks IS NOT NULL ORDER BY random() LIMIT %(count)s

-- name: read_documents
SELECT
    d.id, d.text, d.prefix, d.unseen, ARRAY(SELECT t.chunk_key FROM {other} AS t WHERE t.id = d.id ORDER BY t.seq, t.chunk_key),
    ARRAY(SELECT ARRAY[t.seq, t.start, t."end"] FROM {other} AS t WHERE t.id = d.id ORDER BY t.seq, t.chunk_key)
FROM {other_documents} AS d
WHERE d.chunks IS NOT NULL ORDER BY random() LIMIT %(count)s

-- name: judge
-- As of a table of whole texts.
SELECT
    count(o.id), count(*) FILTER (WHERE o.is_pending),
    count(*) FILTER (WHERE o.id IS NULL AND c.id IS NULL AND NOT is_due),
    count(*) FILTER (WHERE CASE
        WHEN o.id IS NULL THEN c.id IS NOT NULL OR is_due
        ELSE t.id IS NULL OR ({t_columns}) IS DISTINCT FROM ({o_columns}) OR o.chunks <> coalesce(c.chunks, 0) OR c.is_bad
    END)
FROM (
    SELECT *, (SELECT m.is_copied OR live.id <= m.copied_to FROM {migration} AS m) AS is_due FROM {documents} AS live
) AS t
FULL JOIN (SELECT *, chunks IS NULL AS is_pending FROM {other_documents} AS beside) AS o USING (id)
FULL JOIN (
    SELECT
        id, count(*) AS chunks,
        bool_or({bad_vector} OR (model_name, model_revision) <> ({model_name}, {model_revision})) AS is_bad
    FROM {other} AS each
    GROUP BY id
) AS c USING (id)
