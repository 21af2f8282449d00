-- A row for each message, applied after schema.sql.
CREATE TABLE IF NOT EXISTS {table} (
    id text COLLATE "C" PRIMARY KEY,
    text text NOT NULL,
    -- Numbers with random low bits do not compress: trying to would only cost time.
    embedding real[] STORAGE EXTERNAL NOT NULL CONSTRAINT {dimension_check} CHECK (cardinality(embedding) = {dimension}),
    model_name text NOT NULL,
    model_revision text NOT NULL,
    source text,
    message_timestamp timestamptz NOT NULL,
    embedding_timestamp timestamptz NOT NULL,
    metadata jsonb NOT NULL,
    -- Null where another server embeds, and nobody counts.
    token_count integer,
    truncated boolean NOT NULL
);

CREATE OR REPLACE VIEW {vectors} AS
SELECT
    id, text, embedding::{vector} AS embedding, model_name, model_revision, source,
    message_timestamp, embedding_timestamp, metadata, token_count, truncated
FROM {table};
