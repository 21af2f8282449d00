-- How far the table is, for a search; each statement under its name.

-- name: may_read_progress
SELECT has_table_privilege(to_regclass(%(progress)s), 'SELECT')

-- name: as_of
SELECT partition, next FROM {progress} WHERE topic = %(topic)s ORDER BY partition
