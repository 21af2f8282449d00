-- The statements of a migration, each under its name. `other` is the table that follows the one of the name: <table>_next
-- before the cut-over, <table>_previous after it; `other_space` says which space it is of. `documents` and
-- `other_documents` have a row for each id, which is mirrored: they are the tables themselves, but for those of chunks.
-- Where its column `lacking` is null, what the model makes of it is still to come. What depends on the layout of the table
-- is in migrate_rows.sql and migrate_chunks.sql.

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
    PRIMARY KEY ({key})
);
ALTER TABLE {other}
    DROP CONSTRAINT IF EXISTS {dimension_check},
    DROP CONSTRAINT IF EXISTS {model_check},
    ADD CONSTRAINT {dimension_check} CHECK (cardinality(embedding) = {dimension}),
    ADD CONSTRAINT {model_check} CHECK (model_name = {model_name} AND model_revision = {model_revision});
{make_documents}
ALTER TABLE {other_documents}
    DROP CONSTRAINT IF EXISTS {embedded_check},
    ALTER COLUMN {lacking} DROP NOT NULL;
-- Of what is still to come.
CREATE INDEX {other_pending} ON {other_documents} (id) WHERE {lacking} IS NULL;

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
-- What the model makes goes with the text: where that is another one, or the row is new, it is still to come.
INSERT INTO {other_documents_path} AS t ({columns}, {lacking}, {of_model})
SELECT {columns}, NULL, {blank} FROM new_rows ORDER BY id COLLATE "C"
ON CONFLICT (id) DO UPDATE SET
    {assignments},
    {lacking} = CASE WHEN {same_text} THEN t.{lacking} END

-- name: mirror
-- In the transaction of whoever writes the table, once for each statement, whatever that one's search path. Plans are
-- kept, and a table that was small when one was made would be read whole.
CREATE OR REPLACE FUNCTION {mirror} () RETURNS trigger LANGUAGE plpgsql
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off
AS $mirror$
DECLARE
    gone text[];
BEGIN
    IF TG_OP = 'TRUNCATE' THEN
        DELETE FROM {other_documents_path};
        DELETE FROM {other_path};
    ELSIF TG_OP = 'DELETE' THEN
        gone := ARRAY(SELECT id FROM old_rows);
        {leave_out};
    ELSE
        IF TG_OP = 'UPDATE' THEN
            gone := ARRAY(SELECT id FROM old_rows EXCEPT SELECT id FROM new_rows);
            {leave_out};
        END IF;
        {upsert};
    END IF;
    RETURN NULL;
END
$mirror$;

-- name: watch_writers
-- Also where a restore or a replication writes.
CREATE TRIGGER embedstream_mirror_insert AFTER INSERT ON {documents}
    REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION {mirror} ();
CREATE TRIGGER embedstream_mirror_update AFTER UPDATE ON {documents}
    REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION {mirror} ();
CREATE TRIGGER embedstream_mirror_delete AFTER DELETE ON {documents}
    REFERENCING OLD TABLE AS old_rows FOR EACH STATEMENT EXECUTE FUNCTION {mirror} ();
CREATE TRIGGER embedstream_mirror_truncate AFTER TRUNCATE ON {documents}
    FOR EACH STATEMENT EXECUTE FUNCTION {mirror} ();
ALTER TABLE {documents} ENABLE ALWAYS TRIGGER embedstream_mirror_insert;
ALTER TABLE {documents} ENABLE ALWAYS TRIGGER embedstream_mirror_update;
ALTER TABLE {documents} ENABLE ALWAYS TRIGGER embedstream_mirror_delete;
ALTER TABLE {documents} ENABLE ALWAYS TRIGGER embedstream_mirror_truncate;

-- name: unwatch_writers
DROP TRIGGER IF EXISTS embedstream_mirror_insert ON {documents};
DROP TRIGGER IF EXISTS embedstream_mirror_update ON {documents};
DROP TRIGGER IF EXISTS embedstream_mirror_delete ON {documents};
DROP TRIGGER IF EXISTS embedstream_mirror_truncate ON {documents};

-- name: read_other_space
SELECT model_name, model_revision, dimension, normalised, max_tokens, service_url, {splitting} FROM {other_space}

-- name: next_texts
-- Of rows that are not in the other table; so many characters at most, but one row in any case.
SELECT {texts} FROM (
    SELECT {texts}, sum(length(text)) OVER (ORDER BY id COLLATE "C") - length(text) AS before
    FROM (
        SELECT {texts} FROM {documents} AS t
        WHERE id > %(after)s COLLATE "C" AND NOT EXISTS (SELECT FROM {other_documents} AS o WHERE o.id = t.id)
        ORDER BY id LIMIT %(rows)s
    ) AS few
) AS summed
WHERE before < %(characters)s
ORDER BY id

-- name: pending_texts
SELECT {texts} FROM (
    SELECT {texts}, sum(length(text)) OVER (ORDER BY id COLLATE "C") - length(text) AS before
    FROM (
        SELECT {texts} FROM {other_documents}
        WHERE {lacking} IS NULL AND id > %(after)s COLLATE "C"
        ORDER BY id LIMIT %(rows)s
    ) AS few
) AS summed
WHERE before < %(characters)s
ORDER BY id

-- name: copied
UPDATE {migration} SET copied_to = greatest(copied_to, %(copied_to)s COLLATE "C"), is_copied = is_copied OR %(is_copied)s

-- name: worked
UPDATE {migration} SET rate = %(rate)s, worked_at = clock_timestamp(), refused = %(refused)s

-- name: counts
-- Rows of the table, of the other one, and those of that which are not complete; of one snapshot.
SELECT
    (SELECT count(*) FROM {documents}), (SELECT count(*) FROM {other_documents}),
    (SELECT count(*) FROM {other_documents} WHERE {lacking} IS NULL)

-- name: pending
SELECT count(*) FROM (SELECT FROM {other_documents} WHERE {lacking} IS NULL LIMIT %(most)s) AS few

-- name: lock_work
SELECT pg_try_advisory_lock(hashtextextended('embedstream migrate ' || to_regclass({migration_name})::oid, 0))

-- name: lock_vacuum
-- Nobody who reads or writes queues behind it, and an autovacuum gives way to who waits for it for a second.
LOCK TABLE {documents}, {table}, {other_documents}, {other} IN SHARE UPDATE EXCLUSIVE MODE

-- name: lock_writers
-- In the order in which those who write lock. Who fills the other table begins with locks of its rows, and must not hold
-- any: what it has locked is passed over.
LOCK TABLE {ledger}, {documents}, {table} IN SHARE ROW EXCLUSIVE MODE;
LOCK TABLE {other_documents}, {other} IN EXCLUSIVE MODE

-- name: lock_readers
-- In the order in which a query of the view locks.
LOCK TABLE {vectors} IN ACCESS EXCLUSIVE MODE;
LOCK TABLE {table}, {documents}, {other_documents}, {other} IN ACCESS EXCLUSIVE MODE

-- name: lock_all
LOCK TABLE {documents}, {table}, {other_documents}, {other} IN ACCESS EXCLUSIVE MODE

-- name: exchange_spaces
-- The rows of the two spaces change places, but for what belongs to the table of the name whatever its vectors.
WITH live AS (SELECT * FROM {space}), beside AS (SELECT * FROM {other_space}), moved AS (
    UPDATE {other_space} SET ({of_space}) = (SELECT {of_space} FROM live)
)
UPDATE {space} AS s SET
    ({of_space}) = (SELECT {of_space} FROM beside),
    former_models = ARRAY(SELECT DISTINCT unnest(s.former_models || s.model_name));

-- name: settle
ALTER TABLE {documents} VALIDATE CONSTRAINT {embedded_check}

-- name: drop_other
DROP TABLE {others}, {other_space}, {migration};
DROP FUNCTION {mirror} ()

-- name: make_pending
CREATE INDEX CONCURRENTLY {pending} ON {documents} (id) WHERE {lacking} IS NULL

-- name: drop_pending
DROP INDEX IF EXISTS {table_pending}

-- name: leave
-- The table makes room: nobody writes it any more but through the mirror, which leaves out vectors.
DROP VIEW {vectors};
{unwatch_writers}
ALTER TABLE {documents} DROP CONSTRAINT IF EXISTS {embedded_check}, ALTER COLUMN {lacking} DROP NOT NULL;

-- name: arrive
-- That every row is complete was seen before, and holds for all that come: to read them here would take long.
ALTER TABLE {other}
    DROP CONSTRAINT IF EXISTS {model_check},
    ADD CONSTRAINT {model_check} CHECK (model_name = {model_name} AND model_revision = {model_revision}) NOT VALID;
ALTER TABLE {other_documents}
    DROP CONSTRAINT IF EXISTS {embedded_check},
    ADD CONSTRAINT {embedded_check} CHECK ({lacking} IS NOT NULL) NOT VALID;

-- name: switched
UPDATE {migration} SET state = {new_state}, switched_at = now(), rate = NULL, worked_at = NULL, refused = '{{}}';

-- name: settled
ALTER TABLE {documents} ALTER COLUMN {lacking} SET NOT NULL, DROP CONSTRAINT {embedded_check};

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
