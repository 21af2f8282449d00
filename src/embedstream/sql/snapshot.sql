-- How a search begins, each statement under its name.

-- name: snapshot
-- Progress and rows are of one moment.
SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY

-- name: hold
-- Before the snapshot: a table that another one replaces would be seen as it was, under a name that is not.
LOCK TABLE {vectors} IN ACCESS SHARE MODE

-- name: tune
-- A plan that is kept was made under the settings of its moment: an exact search could get the index's.
-- A scan that begins where another one is, or that several share, gives other rows each time it ends early.
SELECT
    set_config('plan_cache_mode', 'force_custom_plan', true), set_config('synchronize_seqscans', 'off', true),
    -- By which operator class each valid index of the table can be asked.
    ARRAY(
        SELECT opcname::text FROM pg_index JOIN pg_opclass AS o ON o.oid = indclass[0]
        WHERE indrelid = to_regclass(%(relation)s) AND indisvalid AND indpred IS NULL
    )
