-- Applied at every submit; each statement leaves alone what is there already.
-- Names and numbers in braces are filled in by store.py. Ids and topics compare by their bytes, as in Python.
CREATE EXTENSION IF NOT EXISTS vector;

CREATE TABLE IF NOT EXISTS text_message_embeddings_space (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    model_name text NOT NULL,
    model_revision text NOT NULL,
    dimension integer NOT NULL,
    normalised boolean NOT NULL,
    max_tokens integer NOT NULL
);
-- When somebody dropped the index by hand; it is not built by itself then until a backlog has come.
ALTER TABLE text_message_embeddings_space ADD COLUMN IF NOT EXISTS index_dropped_at timestamptz;

CREATE TABLE IF NOT EXISTS text_message_embeddings (
    id text COLLATE "C" PRIMARY KEY,
    text text NOT NULL,
    -- Numbers with random low bits do not compress: trying to would only cost time.
    embedding real[] STORAGE EXTERNAL NOT NULL CONSTRAINT text_message_embeddings_dimension CHECK (cardinality(embedding) = 4),
    model_name text NOT NULL,
    model_revision text NOT NULL,
    source text,
    message_timestamp timestamptz NOT NULL,
    embedding_timestamp timestamptz NOT NULL,
    metadata jsonb NOT NULL,
    token_count integer NOT NULL,
    truncated boolean NOT NULL
);

CREATE TABLE IF NOT EXISTS text_message_embeddings_ledger (
    id text COLLATE "C" PRIMARY KEY,
    event_time timestamptz NOT NULL,
    topic text COLLATE "C" NOT NULL,
    partition integer NOT NULL,
    "offset" bigint NOT NULL,
    state text NOT NULL CHECK (state IN ('live', 'deleted')),
    content_hash bytea CHECK ((content_hash IS NULL) = (state = 'deleted')),
    updated_at timestamptz NOT NULL DEFAULT now()
);

CREATE OR REPLACE VIEW text_message_vectors AS
SELECT
    id, text, embedding::vector(4) AS embedding, model_name, model_revision, source,
    message_timestamp, embedding_timestamp, metadata, token_count, truncated
FROM text_message_embeddings;
