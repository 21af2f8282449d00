-- What is asked of a migration without a look at its tables.

-- name: read
SELECT
    state, paused, share, started_at, switched_at, copied_to, is_copied, rate,
    extract(epoch FROM clock_timestamp() - worked_at)::float8, refused
FROM {migration}

-- name: set_share
UPDATE {migration} SET share = %s

-- name: set_paused
UPDATE {migration} SET paused = %s
