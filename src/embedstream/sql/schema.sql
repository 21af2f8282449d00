-- Applied by submit where something is missing; each statement leaves alone what is there already.
-- Names and numbers in braces are filled in by store/names.py. Ids and topics compare by their bytes, as in Python.
CREATE TABLE IF NOT EXISTS {space} (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    model_name text NOT NULL,
    model_revision text NOT NULL,
    dimension integer NOT NULL,
    normalised boolean NOT NULL,
    max_tokens integer NOT NULL
);
-- When somebody dropped the index by hand; it is not built by itself then until a backlog has come.
ALTER TABLE {space} ADD COLUMN IF NOT EXISTS index_dropped_at timestamptz;
ALTER TABLE {space} ADD COLUMN IF NOT EXISTS words_dropped_at timestamptz;
ALTER TABLE {space} ADD COLUMN IF NOT EXISTS metadata_dropped_at timestamptz;
-- What tells this table from others of its name, also after a restore on another server.
ALTER TABLE {space} ADD COLUMN IF NOT EXISTS table_id uuid NOT NULL DEFAULT gen_random_uuid();
ALTER TABLE {space} ADD COLUMN IF NOT EXISTS version_by text NOT NULL DEFAULT 'time';
-- Not set: the table is of a version that kept no progress, and nobody has submitted a job for it since.
ALTER TABLE {space} ADD COLUMN IF NOT EXISTS progress_since timestamptz;
-- The hash of what the latest job makes of its records; not set: it takes them in the default shape.
ALTER TABLE {space} ADD COLUMN IF NOT EXISTS mapping text;
-- By model_revision, the commit on the Hugging Face Hub that it is of, where it is known.
ALTER TABLE {space} ADD COLUMN IF NOT EXISTS hub_commits jsonb NOT NULL DEFAULT '{{}}';
-- The vectors of fixed texts, for a space of another server; not set: the revision says all.
ALTER TABLE {space} ADD COLUMN IF NOT EXISTS canary bytea;

CREATE TABLE IF NOT EXISTS {ledger} (
    id text COLLATE "C" PRIMARY KEY,
    event_time timestamptz NOT NULL,
    topic text COLLATE "C" NOT NULL,
    partition integer NOT NULL,
    "offset" bigint NOT NULL,
    state text NOT NULL CHECK (state IN ('live', 'deleted')),
    content_hash bytea CHECK ((content_hash IS NULL) = (state = 'deleted')),
    updated_at timestamptz NOT NULL DEFAULT now()
);
-- The number of the message among those that came of one record.
ALTER TABLE {ledger} ADD COLUMN IF NOT EXISTS item integer NOT NULL DEFAULT 0;

CREATE TABLE IF NOT EXISTS {progress} (
    topic text COLLATE "C" NOT NULL,
    partition integer NOT NULL,
    topic_id text,
    cluster_id text,
    -- The offset after the last record that has its outcome.
    next bigint NOT NULL,
    -- Records that lost against an earlier one of this partition, only because of their time.
    late bigint NOT NULL DEFAULT 0,
    -- Ids that came into the ledger through this partition: their sum is the number of its rows.
    ids bigint NOT NULL DEFAULT 0,
    -- Where a worker had been already when it found `next` further back.
    back_from bigint,
    updated_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (topic, partition)
-- Updated with each micro-batch: a new version of a row has room beside the old one.
) WITH (fillfactor = 50);

-- The first offset that the latest job's mapping was applied to: records before it were read with another.
ALTER TABLE {progress} ADD COLUMN IF NOT EXISTS mapped_from bigint NOT NULL DEFAULT 0;
