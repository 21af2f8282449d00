-- What a migration does otherwise with a table of whole texts: a row has its vector, or lacks it.

-- name: key
id

-- name: make_documents
-- The table has a row for each id.

-- name: blank
{model_name}, {model_revision}, now(), 0, false

-- name: same_text
t.text = excluded.text

-- name: leave_out
DELETE FROM {other_path} WHERE id = ANY (gone)

-- name: vectors_given
-- The vectors lie one after the other in one array; of a text that is refused there is none.
unnest(
    %(id)b::text[], %(hash)b::bytea[], %(first)b::integer[], %(last)b::integer[], %(token_count)b::integer[],
    %(truncated)b::boolean[]
) AS i (given, hash, first, last, tokens, cut)

-- name: copy
-- Nobody deletes a row that is locked here until it is copied: else its copy would stay for ever. One that was given
-- another text meanwhile is in the other table by then.
WITH held AS (
    SELECT {t_columns}, i.first AS "i first", i.last AS "i last", i.tokens AS "i tokens", i.cut AS "i cut"
    FROM {vectors_given} JOIN {table} AS t ON t.id = i.given COLLATE "C"
    WHERE sha256(convert_to(t.text, 'UTF8')) = i.hash
    ORDER BY t.id FOR KEY SHARE OF t
)
INSERT INTO {other} ({columns}, embedding, {of_model})
SELECT
    {columns}, (%(vectors)b::real[])["i first":"i last"], {model_name}, {model_revision}, now(), "i tokens", "i cut"
FROM held
ON CONFLICT DO NOTHING

-- name: fill
-- Only where the text is the one that was embedded; what somebody else has locked is left to the next pass. One look for
-- each id: a join may be planned to compare every id with every row that lacks its vector, as mostly there are none.
WITH free AS (
    SELECT i.* FROM (SELECT * FROM {vectors_given} ORDER BY given COLLATE "C") AS i
    CROSS JOIN LATERAL (
        SELECT FROM {other} AS o
        WHERE o.id = i.given COLLATE "C" AND o.embedding IS NULL AND sha256(convert_to(o.text, 'UTF8')) = i.hash
        AND (o.model_name, o.model_revision) = ({model_name}, {model_revision})
        FOR UPDATE SKIP LOCKED
    ) AS o
)
UPDATE {other} AS o SET
    embedding = (%(vectors)b::real[])[free.first:free.last], embedding_timestamp = now(), token_count = free.tokens,
    truncated = free.cut
FROM free WHERE o.id = free.given COLLATE "C"

-- name: differing
-- Rows that are not the same in both tables, beside their vectors.
SELECT
    count(*) FILTER (WHERE o.id IS NULL), count(*) FILTER (WHERE t.id IS NULL),
    count(*) FILTER (WHERE t.id = o.id AND ({t_columns}) IS DISTINCT FROM ({o_columns}))
FROM {table} AS t FULL JOIN {other} AS o USING (id)

-- name: sample
SELECT id, text, embedding FROM {other} WHERE embedding IS NOT NULL ORDER BY random() LIMIT %(count)s

-- name: judge
-- All rows of the other table, those without a vector, those that are yet to come, and those that are not as they should.
SELECT
    count(o.id), count(*) FILTER (WHERE o.is_pending), count(*) FILTER (WHERE o.id IS NULL AND NOT is_due),
    count(*) FILTER (WHERE CASE
        WHEN o.id IS NULL THEN is_due
        ELSE t.id IS NULL OR ({t_columns}) IS DISTINCT FROM ({o_columns}) OR o.is_bad
            OR (o.model_name, o.model_revision) <> ({model_name}, {model_revision})
    END)
FROM (SELECT *, (SELECT m.is_copied OR live.id <= m.copied_to FROM {migration} AS m) AS is_due FROM {table} AS live) AS t
FULL JOIN (
    SELECT *, embedding IS NULL AS is_pending, embedding IS NOT NULL AND {bad_vector} AS is_bad FROM {other} AS beside
) AS o USING (id)
