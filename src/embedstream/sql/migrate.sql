-- The statements of a migration, each under its name. `other` is the table that follows the one of the name: <table>_next
-- before the cut-over, <table>_previous after it; `other_space` says which space it is of.

-- name: make
ALTER TABLE {space} ADD COLUMN IF NOT EXISTS service_url text;
ALTER TABLE {space} ADD COLUMN IF NOT EXISTS canary bytea;
ALTER TABLE {space} ADD COLUMN IF NOT EXISTS former_models text[] NOT NULL DEFAULT '{{}}';

CREATE TABLE {migration} (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    state text NOT NULL DEFAULT 'copying' CHECK (state IN ('copying', 'cut over')),
    paused boolean NOT NULL DEFAULT false,
    share real NOT NULL,
    started_at timestamptz NOT NULL DEFAULT now(),
    switched_at timestamptz,
    -- The rows up to this id, in the order of ids, are in the other table.
    copied_to text COLLATE "C" NOT NULL DEFAULT '',
    is_copied boolean NOT NULL DEFAULT false,
    -- Of who works on it: rows a second, and when it last said so.
    rate double precision,
    worked_at timestamptz,
    -- By id, why the service refuses the text; the first of them.
    refused jsonb NOT NULL DEFAULT '{{}}'
);

CREATE TABLE {other} (
    LIKE {table} INCLUDING COMMENTS INCLUDING COMPRESSION INCLUDING CONSTRAINTS INCLUDING DEFAULTS INCLUDING GENERATED
    INCLUDING STORAGE,
    PRIMARY KEY (id)
);
ALTER TABLE {other}
    DROP CONSTRAINT IF EXISTS {dimension_check},
    DROP CONSTRAINT IF EXISTS {model_check},
    DROP CONSTRAINT IF EXISTS {embedded_check},
    ADD CONSTRAINT {dimension_check} CHECK (cardinality(embedding) = {dimension}),
    ADD CONSTRAINT {model_check} CHECK (model_name = {model_name} AND model_revision = {model_revision}),
    ALTER COLUMN embedding DROP NOT NULL;
-- Of what lacks its vector.
CREATE INDEX {other_pending} ON {other} (id) WHERE embedding IS NULL;

CREATE TABLE {other_space} (LIKE {space} INCLUDING ALL)

-- name: pin_other
INSERT INTO {other_space} (model_name, model_revision, dimension, normalised, max_tokens, service_url, canary)
VALUES (%s, %s, %s, %s, %s, %s, %s)

-- name: open
INSERT INTO {migration} (share) VALUES (%s)

-- name: note_service
UPDATE {space} SET service_url = %s

-- name: note_other_service
UPDATE {other_space} SET service_url = %s

-- name: upsert
-- The vector goes with the text: where that is another one, or the row is new, it is still to come.
INSERT INTO {other_path} AS t ({columns}, embedding, {of_model})
SELECT {columns}, NULL, {model_name}, {model_revision}, now(), 0, false FROM new_rows ORDER BY id COLLATE "C"
ON CONFLICT (id) DO UPDATE SET
    {assignments},
    embedding = CASE WHEN t.text = excluded.text THEN t.embedding END

-- name: mirror
-- In the transaction of whoever writes the table, once for each statement, whatever that one's search path. Plans are
-- kept, and a table that was small when one was made would be read whole.
CREATE OR REPLACE FUNCTION {mirror} () RETURNS trigger LANGUAGE plpgsql
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off
AS $mirror$
BEGIN
    IF TG_OP = 'TRUNCATE' THEN
        DELETE FROM {other_path};
    ELSIF TG_OP = 'DELETE' THEN
        DELETE FROM {other_path} WHERE id IN (SELECT id FROM old_rows);
    ELSE
        IF TG_OP = 'UPDATE' THEN
            DELETE FROM {other_path} WHERE id IN (SELECT id FROM old_rows EXCEPT SELECT id FROM new_rows);
        END IF;
        {upsert};
    END IF;
    RETURN NULL;
END
$mirror$;

-- name: watch_writers
-- Also where a restore or a replication writes.
CREATE TRIGGER embedstream_mirror_insert AFTER INSERT ON {table}
    REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION {mirror} ();
CREATE TRIGGER embedstream_mirror_update AFTER UPDATE ON {table}
    REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION {mirror} ();
CREATE TRIGGER embedstream_mirror_delete AFTER DELETE ON {table}
    REFERENCING OLD TABLE AS old_rows FOR EACH STATEMENT EXECUTE FUNCTION {mirror} ();
CREATE TRIGGER embedstream_mirror_truncate AFTER TRUNCATE ON {table}
    FOR EACH STATEMENT EXECUTE FUNCTION {mirror} ();
ALTER TABLE {table} ENABLE ALWAYS TRIGGER embedstream_mirror_insert;
ALTER TABLE {table} ENABLE ALWAYS TRIGGER embedstream_mirror_update;
ALTER TABLE {table} ENABLE ALWAYS TRIGGER embedstream_mirror_delete;
ALTER TABLE {table} ENABLE ALWAYS TRIGGER embedstream_mirror_truncate;

-- name: unwatch_writers
DROP TRIGGER IF EXISTS embedstream_mirror_insert ON {table};
DROP TRIGGER IF EXISTS embedstream_mirror_update ON {table};
DROP TRIGGER IF EXISTS embedstream_mirror_delete ON {table};
DROP TRIGGER IF EXISTS embedstream_mirror_truncate ON {table};

-- name: read_other_space
SELECT model_name, model_revision, dimension, normalised, max_tokens, service_url FROM {other_space}

-- name: next_texts
-- Of rows that are not in the other table; so many characters at most, but one row in any case.
SELECT id, text FROM (
    SELECT id, text, sum(length(text)) OVER (ORDER BY id COLLATE "C") - length(text) AS before
    FROM (
        SELECT id, text FROM {table} AS t
        WHERE id > %(after)s COLLATE "C" AND NOT EXISTS (SELECT FROM {other} AS o WHERE o.id = t.id)
        ORDER BY id LIMIT %(rows)s
    ) AS few
) AS summed
WHERE before < %(characters)s
ORDER BY id

-- name: pending_texts
SELECT id, text FROM (
    SELECT id, text, sum(length(text)) OVER (ORDER BY id COLLATE "C") - length(text) AS before
    FROM (
        SELECT id, text FROM {other}
        WHERE embedding IS NULL AND id > %(after)s COLLATE "C"
        ORDER BY id LIMIT %(rows)s
    ) AS few
) AS summed
WHERE before < %(characters)s
ORDER BY id

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

-- name: copied
UPDATE {migration} SET copied_to = greatest(copied_to, %(copied_to)s COLLATE "C"), is_copied = is_copied OR %(is_copied)s

-- name: worked
UPDATE {migration} SET rate = %(rate)s, worked_at = clock_timestamp(), refused = %(refused)s

-- name: counts
-- Rows of the table, of the other one, and those of that without a vector; of one snapshot.
SELECT
    (SELECT count(*) FROM {table}), (SELECT count(*) FROM {other}),
    (SELECT count(*) FROM {other} WHERE embedding IS NULL)

-- name: pending
SELECT count(*) FROM (SELECT FROM {other} WHERE embedding IS NULL LIMIT %(most)s) AS few

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

-- name: lock_work
SELECT pg_try_advisory_lock(hashtextextended('embedstream migrate ' || to_regclass({migration_name})::oid, 0))

-- name: lock_vacuum
-- Nobody who reads or writes queues behind it, and an autovacuum gives way to who waits for it for a second.
LOCK TABLE {table}, {other} IN SHARE UPDATE EXCLUSIVE MODE

-- name: lock_writers
LOCK TABLE {ledger}, {table}, {other} IN SHARE ROW EXCLUSIVE MODE

-- name: lock_readers
-- In the order in which a query of the view locks.
LOCK TABLE {vectors} IN ACCESS EXCLUSIVE MODE;
LOCK TABLE {table}, {other} IN ACCESS EXCLUSIVE MODE

-- name: lock_all
LOCK TABLE {table}, {other} IN ACCESS EXCLUSIVE MODE

-- name: exchange_spaces
-- The rows of the two spaces change places, but for what belongs to the table of the name whatever its vectors.
WITH live AS (SELECT * FROM {space}), beside AS (SELECT * FROM {other_space}), moved AS (
    UPDATE {other_space} AS o SET
        model_name = live.model_name, model_revision = live.model_revision, dimension = live.dimension,
        normalised = live.normalised, max_tokens = live.max_tokens, service_url = live.service_url,
        canary = live.canary
    FROM live
)
UPDATE {space} AS s SET
    model_name = beside.model_name, model_revision = beside.model_revision, dimension = beside.dimension,
    normalised = beside.normalised, max_tokens = beside.max_tokens, service_url = beside.service_url,
    canary = beside.canary,
    former_models = ARRAY(SELECT DISTINCT unnest(s.former_models || s.model_name))
FROM beside;

-- name: settle
ALTER TABLE {table} VALIDATE CONSTRAINT {embedded_check}

-- name: drop_other
DROP TABLE {other}, {other_space}, {migration};
DROP FUNCTION {mirror} ()

-- name: make_pending
CREATE INDEX CONCURRENTLY {pending} ON {table} (id) WHERE embedding IS NULL

-- name: drop_pending
DROP INDEX IF EXISTS {table_pending}

-- name: leave
-- The table makes room: nobody writes it any more but through the mirror, which leaves out vectors.
DROP VIEW {vectors};
{unwatch_writers}
ALTER TABLE {table} DROP CONSTRAINT IF EXISTS {embedded_check}, ALTER COLUMN embedding DROP NOT NULL;

-- name: arrive
-- That every row has its vector was seen before, and holds for all that come: to read them here would take long.
ALTER TABLE {other}
    DROP CONSTRAINT IF EXISTS {model_check}, DROP CONSTRAINT IF EXISTS {embedded_check},
    ADD CONSTRAINT {model_check} CHECK (model_name = {model_name} AND model_revision = {model_revision}) NOT VALID,
    ADD CONSTRAINT {embedded_check} CHECK (embedding IS NOT NULL) NOT VALID;

-- name: switched
UPDATE {migration} SET state = {new_state}, switched_at = now(), rate = NULL, worked_at = NULL, refused = '{{}}';

-- name: settled
ALTER TABLE {table} ALTER COLUMN embedding SET NOT NULL, DROP CONSTRAINT {embedded_check};

-- name: indexes
SELECT c.relname, pg_get_indexdef(c.oid), x.indisvalid, x.indisprimary
FROM pg_index AS x JOIN pg_class AS c ON c.oid = x.indexrelid
WHERE x.indrelid = %(relation)s::regclass
ORDER BY c.relname

-- name: grants
SELECT format(
    'GRANT %%s%%s ON %%s TO %%s%%s', privilege, '' || part, %(to)s::text,
    CASE grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(grantee)) END,
    CASE WHEN is_grantable THEN ' WITH GRANT OPTION' ELSE '' END
)
FROM (
    SELECT (aclexplode(relacl)).privilege_type AS privilege, '' AS part, (aclexplode(relacl)).grantee,
        (aclexplode(relacl)).is_grantable
    FROM pg_class WHERE oid = %(relation)s::regclass
    UNION ALL
    SELECT (aclexplode(attacl)).privilege_type, format(' (%%I)', attname), (aclexplode(attacl)).grantee,
        (aclexplode(attacl)).is_grantable
    FROM pg_attribute WHERE attrelid = %(relation)s::regclass AND NOT attisdropped
) AS granted

-- name: owned
SELECT
    quote_ident(pg_get_userbyid(relowner)), pg_has_role(relowner, 'USAGE'),
    has_schema_privilege(relnamespace, 'CREATE'), relnamespace::regnamespace::text,
    relnamespace IS NOT DISTINCT FROM to_regnamespace(quote_ident(current_schema()))
FROM pg_class WHERE oid = %(relation)s::regclass

-- name: options
SELECT coalesce(array_to_string(reloptions, ', '), '') FROM pg_class WHERE oid = %(relation)s::regclass

-- name: obstacles
-- What is bound to the very table, and would stay with it when another one takes its name.
SELECT 'row level security' FROM pg_class WHERE oid = %(table)s::regclass AND relrowsecurity
UNION ALL
SELECT 'partitions or inheritance' WHERE EXISTS (
    SELECT FROM pg_inherits WHERE %(table)s::regclass IN (inhrelid, inhparent)
)
UNION ALL
SELECT 'trigger ' || tgname FROM pg_trigger
WHERE tgrelid = %(table)s::regclass AND NOT tgisinternal AND NOT starts_with(tgname, 'embedstream_mirror_')
UNION ALL
SELECT 'rule ' || rulename FROM pg_rewrite WHERE ev_class = %(table)s::regclass
UNION ALL
SELECT 'foreign key ' || conname FROM pg_constraint
WHERE contype = 'f' AND %(table)s::regclass IN (conrelid, confrelid)
UNION ALL
SELECT 'publication ' || pubname FROM pg_publication_rel AS r JOIN pg_publication AS p ON p.oid = r.prpubid
WHERE prrelid = %(table)s::regclass
UNION ALL
SELECT DISTINCT 'view ' || r.ev_class::regclass::text
FROM pg_depend AS d JOIN pg_rewrite AS r ON d.classid = 'pg_rewrite'::regclass AND d.objid = r.oid
WHERE d.refclassid = 'pg_class'::regclass AND d.refobjid IN (%(table)s::regclass, %(vectors)s::regclass)
AND r.ev_class NOT IN (%(table)s::regclass, %(vectors)s::regclass)
ORDER BY 1

-- name: count_watchers
SELECT count(*) = 4 FROM pg_trigger
WHERE tgrelid = %(table)s::regclass AND starts_with(tgname, 'embedstream_mirror_') AND tgenabled = 'A'

-- name: has_embedded_check
SELECT EXISTS (SELECT FROM pg_constraint WHERE conrelid = %(table)s::regclass AND conname = {embedded_check_name})
