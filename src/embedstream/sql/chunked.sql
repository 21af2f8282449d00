-- A row for each chunk of a document, applied after schema.sql in place of rows.sql.
ALTER TABLE {space} ADD COLUMN IF NOT EXISTS splitting text;

-- What holds for a whole document stands here once: in each chunk, every change of it would be many.
CREATE TABLE IF NOT EXISTS {documents} (
    id text COLLATE "C" PRIMARY KEY,
    text text NOT NULL,
    -- What stood before each chunk when it was embedded.
    prefix text NOT NULL,
    source text,
    message_timestamp timestamptz NOT NULL,
    metadata jsonb NOT NULL,
    -- Rows of the table, and chunks beside them of which the model sees nothing.
    chunks integer NOT NULL CHECK (chunks > 0),
    unseen integer NOT NULL
);

CREATE TABLE IF NOT EXISTS {table} (
    id text COLLATE "C" NOT NULL,
    -- The SHA-256 of prefix and text, and in four bytes how many equal chunks stand before this one.
    chunk_key bytea NOT NULL CHECK (length(chunk_key) = 36),
    seq integer NOT NULL,
    -- Characters of the document.
    start integer NOT NULL,
    "end" integer NOT NULL,
    text text NOT NULL,
    embedding real[] STORAGE EXTERNAL NOT NULL CONSTRAINT {dimension_check} CHECK (cardinality(embedding) = {dimension}),
    model_name text NOT NULL,
    model_revision text NOT NULL,
    embedding_timestamp timestamptz NOT NULL,
    token_count integer NOT NULL,
    truncated boolean NOT NULL,
    PRIMARY KEY (id, chunk_key)
-- An edit moves the chunks behind it. Each row has room for a new version beside the old one, and what moves is in no
-- index, so that the vector's learns nothing of it; text and vector lie elsewhere, which keeps rows and room small.
) WITH (fillfactor = 50, toast_tuple_target = 128);

CREATE OR REPLACE VIEW {vectors} AS
SELECT
    id, c.text, c.embedding::{vector} AS embedding, c.model_name, c.model_revision, d.source,
    d.message_timestamp, c.embedding_timestamp, d.metadata, c.token_count, c.truncated,
    c.chunk_key, c.seq, c.start, c."end", d.prefix
FROM {table} AS c JOIN {documents} AS d USING (id);
