-- The statements of the audit, each under its name. What the topics hold goes into temporary tables; the database joins.
-- Relations in braces may be narrowed to some ids.

-- name: create_tables
CREATE TEMPORARY TABLE ranges (
    partition integer, first bigint, "end" bigint, settled bigint, latest bigint, mapped_from bigint
);
-- A message of the topic: live and deleted are what it asks for; of records that are rejected or filtered nothing comes,
-- and they have neither id nor version. `item` is its number in the record, `extra` marks those behind the first of one.
-- `recorded` is the record's timestamp in milliseconds, `timed` whether the message has another one in it. A live message
-- without a hash has the text of the version before it.
CREATE TEMPORARY TABLE sent (
    partition integer, "offset" bigint, item integer, extra boolean, recorded bigint, timed boolean, state text,
    id text COLLATE "C", event_time timestamptz, content_hash bytea, source text, message_timestamp timestamptz,
    metadata text
);
-- Without an item it is about all that came of the record.
CREATE TEMPORARY TABLE dead (
    partition integer, "offset" bigint, item integer, recorded bigint, topic_id text, stage text, code text
);
-- The newest versions of an id that the topic holds: those whose outcome is known (settled), and those beyond.
CREATE TEMPORARY TABLE heads (
    id text COLLATE "C", settled boolean, event_time timestamptz, partition integer, "offset" bigint, item integer,
    state text, content_hash bytea
);
-- What is known of an id: base is the version that the table must be at, target the record that would repair it.
-- Findings about `older` ones may come of a mapping that is used no more.
CREATE TEMPORARY TABLE verdicts (
    id text COLLATE "C", kind text, origin text, has_row boolean, broken boolean, pending boolean,
    ledger_time timestamptz, ledger_topic text COLLATE "C", ledger_partition integer, ledger_offset bigint,
    ledger_item integer, ledger_state text,
    target_partition integer, target_offset bigint,
    base_time timestamptz, base_topic text COLLATE "C", base_partition integer, base_offset bigint, base_item integer,
    older boolean DEFAULT false
)

-- name: copy_sent
COPY sent FROM STDIN

-- name: copy_dead
COPY dead FROM STDIN

-- name: add_range
INSERT INTO ranges VALUES (%s, %s, %s, %s, %s, %s)

-- name: match_dead
-- A dead letter counts for the very record that it came from: a topic that was made anew has other records in its places.
DELETE FROM dead AS d
WHERE NOT EXISTS (
    SELECT FROM sent AS s
    WHERE (s.partition, s."offset") = (d.partition, d."offset") AND (d.item IS NULL OR s.item = d.item)
    AND (s.recorded = d.recorded OR (d.recorded IS NULL AND d.topic_id = %(topic_id)s::text))
    AND coalesce(d.topic_id = %(topic_id)s::text, true)
)

-- name: once_dead
-- Dead letters are written at least once.
DELETE FROM dead AS d
WHERE EXISTS (
    SELECT FROM dead AS other
    WHERE (other.partition, other."offset") = (d.partition, d."offset")
    AND CASE WHEN other.item IS NOT DISTINCT FROM d.item THEN other.ctid < d.ctid ELSE other.item IS NULL END
)

-- name: drop_stored_dead
-- A record that was delivered again may have been refused once, and stored once.
DELETE FROM dead AS d
USING {ledger} AS l, sent AS s
WHERE NOT %(former)s AND l.topic = %(topic)s AND (l.partition, l."offset") = (d.partition, d."offset")
AND (s.partition, s."offset") = (d.partition, d."offset") AND s.id = l.id AND s.event_time = l.event_time
AND s.item = l.item AND (d.item IS NULL OR d.item = l.item)

-- name: inherit
-- A message that leaves its text out has that of the version before it, unless that is a delete. Where no version before
-- it is left in the topic, the hash stays unknown, and any text will do.
WITH heirs AS MATERIALIZED (
    SELECT DISTINCT id FROM sent WHERE state = 'live' AND content_hash IS NULL
), versions AS (
    SELECT
        s.ctid AS place, s.id, s.event_time, s.partition, s."offset", s.item, s.state, s.content_hash AS own,
        count(*) FILTER (WHERE s.state = 'deleted' OR s.content_hash IS NOT NULL) OVER (
            PARTITION BY s.id ORDER BY s.event_time, s.partition, s."offset", s.item
        ) AS span
    FROM sent AS s JOIN heirs USING (id)
    WHERE NOT EXISTS (
        SELECT FROM dead AS d
        WHERE (d.partition, d."offset") = (s.partition, s."offset") AND (d.item IS NULL OR d.item = s.item)
    )
), known AS (
    SELECT
        place, own, state,
        first_value(own) OVER (PARTITION BY id, span ORDER BY event_time, partition, "offset", item) AS inherited
    FROM versions
)
UPDATE sent AS s SET content_hash = k.inherited
FROM known AS k
WHERE s.ctid = k.place AND k.own IS NULL AND k.state = 'live' AND k.inherited IS NOT NULL

-- name: find_heads
INSERT INTO heads
SELECT DISTINCT ON (id, settled) id, settled, event_time, partition, "offset", item, state, content_hash
FROM (
    SELECT
        s.id, s."offset" < r.settled AS settled, s.event_time, s.partition, s."offset", s.item, s.state, s.content_hash
    FROM sent AS s JOIN ranges AS r USING (partition)
    WHERE s.state IN ('live', 'deleted')
    AND NOT EXISTS (
        SELECT FROM dead AS d
        WHERE (d.partition, d."offset") = (s.partition, s."offset") AND (d.item IS NULL OR d.item = s.item)
    )
) AS candidates
ORDER BY id, settled, event_time DESC, partition DESC, "offset" DESC, item DESC

-- name: judge
INSERT INTO verdicts
WITH stored AS MATERIALIZED (
    {stored}
), explained AS (
    SELECT
        l.id, l.event_time, l.topic, l.partition, l."offset", l.item, l.state, l.content_hash,
        CASE
            WHEN l.topic = '' THEN 'forgotten'
            WHEN l.topic <> %(topic)s THEN 'elsewhere'
            WHEN %(former)s THEN 'former'
            WHEN s.id = l.id AND s.event_time = l.event_time AND d.partition IS NULL THEN 'sent'
            WHEN r.partition IS NULL THEN 'nowhere'
            WHEN l."offset" < r.first THEN 'expired'
            WHEN l."offset" >= r."end" AND l."offset" < r.latest THEN 'newer'
            WHEN s.partition IS NULL AND %(compacted)s AND l."offset" < r."end" THEN 'expired'
            WHEN s.state = 'rejected' AND d.partition IS NULL THEN 'rejected'
            ELSE 'nowhere'
        END AS origin,
        s.state AS sent_state, s.content_hash AS sent_hash, s.source, s.message_timestamp, s.metadata
    FROM {ledger} AS l
    LEFT JOIN ranges AS r ON l.topic = %(topic)s AND r.partition = l.partition
    LEFT JOIN sent AS s ON l.topic = %(topic)s
        AND s.partition = l.partition AND s."offset" = l."offset" AND s.item = l.item
    LEFT JOIN dead AS d ON d.partition = s.partition AND d."offset" = s."offset" AND (d.item IS NULL OR d.item = s.item)
), placed AS (
    -- Where the newest record of the topic says what the ledger says, but at another place, the place alone is wrong:
    -- `twin`. A place of a topic's former life is older than any record of the same time, as if it were forgotten.
    SELECT
        l.*,
        coalesce(
            origin <> 'newer' AND (origin <> 'expired' OR h.settled) AND NOT (
                origin = 'sent' AND l.state = sent_state AND l.content_hash IS NOT DISTINCT FROM sent_hash
            )
            AND (l.event_time, l.state) = (h.event_time, h.state)
            AND l.content_hash IS NOT DISTINCT FROM h.content_hash,
            false
        ) AS twin, h.event_time AS twin_time, h.state AS twin_state,
        CASE origin WHEN 'former' THEN '' ELSE l.topic END AS version_topic,
        CASE origin WHEN 'former' THEN -1 ELSE l.partition END AS version_partition,
        CASE origin WHEN 'former' THEN -1 ELSE l."offset" END AS version_offset,
        CASE origin WHEN 'former' THEN 0 ELSE l.item END AS version_item,
        h.partition AS twin_partition, h."offset" AS twin_offset, h.item AS twin_item
    FROM explained AS l
    LEFT JOIN (SELECT DISTINCT ON (id) * FROM heads ORDER BY id, settled DESC) AS h ON h.id = l.id
), compared AS (
    SELECT
        l.id, l.event_time, l.topic, l.partition, l."offset", l.item, l.state, l.content_hash, l.sent_state,
        l.sent_hash, l.version_topic, l.version_partition, l.version_offset, l.version_item,
        l.twin, l.twin_time, l.twin_state, l.twin_partition, l.twin_offset, l.twin_item,
        CASE WHEN l.twin AND l.origin NOT IN ('forgotten', 'elsewhere', 'former') THEN 'moved' ELSE l.origin END
            AS origin,
        CASE WHEN l.twin THEN s.source ELSE l.source END AS source,
        CASE WHEN l.twin THEN s.message_timestamp ELSE l.message_timestamp END AS message_timestamp,
        CASE WHEN l.twin THEN s.metadata ELSE l.metadata END AS metadata
    FROM placed AS l
    LEFT JOIN sent AS s ON l.twin
        AND s.partition = l.twin_partition AND s."offset" = l.twin_offset AND s.item = l.twin_item
), joined AS (
    SELECT
        id, l.id IS NOT NULL AS has_ledger, t.id IS NOT NULL AS has_row, h.id IS NOT NULL AS has_head,
        coalesce(l.origin, 'none') AS origin, l.state AS ledger_state, l.sent_state, h.state AS head_state,
        l.event_time AS ledger_time, l.topic AS ledger_topic, l.partition AS ledger_partition,
        l."offset" AS ledger_offset, l.item AS ledger_item, l.version_topic, l.version_partition, l.version_offset,
        l.version_item, coalesce(l.twin, false) AS twin, l.twin_time, l.twin_state, l.twin_partition, l.twin_offset,
        l.twin_item, l.content_hash, l.sent_hash, t.hash, t.wrong_space, t.bad_vector, t.bad_chunks,
        h.event_time AS head_time, h.partition AS head_partition, h."offset" AS head_offset, h.item AS head_item,
        u.event_time AS later_time, u.partition AS later_partition, u."offset" AS later_offset, u.item AS later_item,
        coalesce(l.twin, false) OR coalesce(l.origin NOT IN ('nowhere', 'rejected'), false) AND (
            h.id IS NULL OR (l.event_time, l.version_topic, l.version_partition, l.version_offset, l.version_item)
                >= (h.event_time, %(topic)s COLLATE "C", h.partition, h."offset", h.item)
        ) AS at_head,
        CASE WHEN (l.twin OR l.origin = 'sent') AND t.hash = l.content_hash THEN
            t.source IS DISTINCT FROM l.source OR t.message_timestamp <> l.message_timestamp
            OR t.metadata <> l.metadata::jsonb
        END AS changed
    FROM compared AS l
    FULL JOIN stored AS t USING (id)
    FULL JOIN (SELECT * FROM heads WHERE settled) AS h USING (id)
    LEFT JOIN (SELECT * FROM heads WHERE NOT settled) AS u USING (id)
), wanted AS (
    SELECT
        *,
        CASE
            WHEN twin THEN twin_state
            WHEN NOT at_head THEN head_state
            WHEN origin = 'sent' THEN sent_state
        END AS wanted_state,
        CASE WHEN twin THEN twin_time WHEN at_head THEN ledger_time ELSE head_time END AS base_time,
        CASE WHEN at_head AND NOT twin THEN version_topic WHEN twin OR has_head THEN %(topic)s END AS base_topic,
        CASE WHEN twin THEN twin_partition WHEN at_head THEN version_partition ELSE head_partition END AS base_partition,
        CASE WHEN twin THEN twin_offset WHEN at_head THEN version_offset ELSE head_offset END AS base_offset,
        CASE WHEN twin THEN twin_item WHEN at_head THEN version_item ELSE head_item END AS base_item
    FROM joined
)
SELECT
    id,
    CASE
        WHEN NOT has_ledger AND NOT has_head THEN 'orphan'
        WHEN NOT at_head AND NOT has_head THEN CASE origin WHEN 'rejected' THEN 'unexplained' ELSE 'orphan' END
        WHEN NOT at_head OR (origin = 'sent' AND sent_state <> ledger_state) THEN CASE
            WHEN wanted_state = 'deleted' AND has_row THEN 'undeleted'
            WHEN NOT has_ledger OR (wanted_state = 'live' AND NOT has_row) THEN 'missing'
            ELSE 'stale'
        END
        WHEN origin = 'elsewhere' AND NOT twin THEN NULL
        WHEN ledger_state = 'deleted' THEN CASE WHEN has_row THEN 'undeleted' END
        WHEN NOT has_row THEN 'missing'
        WHEN hash <> content_hash OR (origin = 'sent' AND content_hash <> sent_hash) THEN 'stale'
        WHEN wrong_space THEN 'wrong_space'
        WHEN bad_chunks THEN 'bad_chunks'
        WHEN bad_vector THEN 'bad_vector'
        WHEN changed THEN 'changed'
    END,
    origin, has_row,
    coalesce(hash IS DISTINCT FROM content_hash OR wrong_space OR bad_vector OR bad_chunks, false) AND has_row,
    coalesce(
        (later_time, later_partition, later_offset, later_item) > (base_time, base_partition, base_offset, base_item),
        false
    ),
    ledger_time, ledger_topic, ledger_partition, ledger_offset, ledger_item, ledger_state,
    CASE WHEN wanted_state IS NOT NULL THEN base_partition END,
    CASE WHEN wanted_state IS NOT NULL THEN base_offset END,
    base_time, base_topic, base_partition, base_offset, base_item
FROM wanted

-- name: find_older
UPDATE verdicts AS v SET older = true
FROM ranges AS r
WHERE v.kind IS NOT NULL AND r.partition = coalesce(nullif(v.ledger_partition, -1), v.base_partition)
AND coalesce(nullif(v.ledger_offset, -1), v.base_offset) < r.mapped_from

-- name: sample
SELECT id, text, embedding
FROM ({embedded}) AS e JOIN (
    SELECT id FROM verdicts WHERE kind IS NULL AND has_row AND origin <> 'elsewhere' ORDER BY random() LIMIT %(count)s
) AS chosen USING (id)

-- name: condemn
UPDATE verdicts SET kind = %(kind)s, broken = true WHERE id = ANY(%(wrong)s)

-- name: read_documents
-- Of those of which nothing is known to be wrong; what is cut again is their stored text, whose hash is the topic's.
SELECT
    d.id, d.text, d.prefix, d.unseen,
    ARRAY(SELECT t.chunk_key FROM {table} AS t WHERE t.id = d.id ORDER BY t.seq, t.chunk_key),
    ARRAY(SELECT ARRAY[t.seq, t.start, t."end"] FROM {table} AS t WHERE t.id = d.id ORDER BY t.seq, t.chunk_key)
FROM {documents} AS d JOIN verdicts AS v USING (id)
WHERE v.kind IS NULL AND v.has_row AND v.origin <> 'elsewhere'

-- name: count_documents
SELECT count(*) FROM {documents} AS d

-- name: outcomes
-- What became of each message that was read.
SELECT
    s.partition, s."offset", s.item, s.id, s.content_hash,
    CASE
        WHEN d.partition IS NOT NULL THEN 'dead'
        WHEN s.state = 'rejected' AND s."offset" < r.settled THEN 'unexplained'
        WHEN s.state = 'filtered' AND s."offset" < r.settled THEN 'filtered'
        WHEN s.state IN ('rejected', 'filtered') OR v.base_time IS NULL THEN 'in_flight'
        WHEN (s.event_time, %(topic)s COLLATE "C", s.partition, s."offset", s.item)
            > (v.base_time, v.base_topic, v.base_partition, v.base_offset, v.base_item) THEN 'in_flight'
        WHEN (s.event_time, %(topic)s COLLATE "C", s.partition, s."offset", s.item)
            < (v.base_time, v.base_topic, v.base_partition, v.base_offset, v.base_item) THEN CASE
                WHEN s.timed OR v.base_topic <> %(topic)s OR v.base_partition <> s.partition
                    OR v.base_offset >= s."offset" THEN 'superseded'
                ELSE 'late'
            END
        WHEN v.kind IS NOT NULL THEN 'unexplained'
        WHEN s.state = 'live' THEN 'stored'
        ELSE 'deleted'
    END AS outcome, d.stage, d.code
FROM sent AS s
JOIN ranges AS r USING (partition)
LEFT JOIN dead AS d
    ON (d.partition, d."offset") = (s.partition, s."offset") AND (d.item IS NULL OR d.item = s.item)
LEFT JOIN verdicts AS v ON v.id = s.id

-- name: account
SELECT outcome, stage, code, count(*) FROM ({outcomes}) AS outcomes
GROUP BY outcome, stage, code
ORDER BY count(*) DESC, stage, code

-- name: count_ids
SELECT count(DISTINCT id) FROM heads

-- name: count_messages
SELECT count(*) FILTER (WHERE NOT extra), count(*) FILTER (WHERE extra) FROM sent

-- name: count_origins
SELECT origin, count(*) FROM verdicts WHERE kind IS NULL GROUP BY origin

-- name: count_moved
SELECT count(*) FROM verdicts WHERE origin IN ('moved', 'former')

-- name: count_lost
-- Ids that are gone from the ledger, without those that have a finding each.
SELECT greatest(0, %(known)s::bigint - %(ids)s::bigint - count(*))
FROM verdicts WHERE kind = 'missing' AND ledger_time IS NULL

-- name: add_unexplained
INSERT INTO verdicts (id, kind, origin, has_row, broken, pending, older)
SELECT
    %(topic)s || '-' || s.partition || '-' || s."offset", 'unexplained', 'rejected', false, false, false,
    s."offset" < r.mapped_from
FROM sent AS s JOIN ranges AS r USING (partition)
WHERE s.state = 'rejected' AND s."offset" < r.settled
AND NOT EXISTS (SELECT FROM dead AS d WHERE (d.partition, d."offset") = (s.partition, s."offset"))

-- name: drop_equal
DELETE FROM verdicts WHERE kind IS NULL

-- name: count_findings
SELECT CASE WHEN older THEN 'older_mapping' ELSE kind END AS kind, count(*) FROM verdicts GROUP BY 1 ORDER BY 1

-- name: list_findings
-- A place that was forgotten is none.
SELECT kind, id, nullif(ledger_partition, -1), ledger_offset, nullif(base_partition, -1), base_offset
FROM (
    SELECT *, row_number() OVER (PARTITION BY kind ORDER BY id) AS place
    FROM (
        SELECT
            CASE WHEN older THEN 'older_mapping' ELSE kind END AS kind, id, ledger_partition, ledger_offset,
            base_partition, base_offset
        FROM verdicts
    ) AS named
) AS numbered
WHERE place <= %(limit)s
ORDER BY kind, id

-- name: create_repairs
-- Nothing is sent again while a newer version is on its way: with the same event time, the copy would win over it.
-- A broken row goes first, or the job would find its text unchanged and keep the vector.
CREATE TEMPORARY TABLE repairs AS
SELECT
    id, ledger_time, ledger_topic, ledger_partition, ledger_offset, ledger_item, target_partition, target_offset,
    target_offset IS NOT NULL AND NOT pending AND kind <> 'orphan' AS resend,
    has_row AND (kind = 'orphan' OR (kind = 'undeleted' AND ledger_state = 'deleted')
        OR (broken AND target_offset IS NOT NULL)) AS remove_row,
    ledger_time IS NOT NULL AND kind <> 'unexplained' AND origin IN ('nowhere', 'rejected') AS remove_ledger,
    kind = 'orphan' AS orphan
FROM verdicts

-- name: lock
-- Whoever writes a row writes the ledger first, so that nobody writes any until this transaction ends.
LOCK TABLE {ledger} IN SHARE ROW EXCLUSIVE MODE

-- name: drop_moved
DELETE FROM repairs AS r
WHERE CASE
    WHEN r.ledger_time IS NULL THEN EXISTS (SELECT FROM {ledger} AS l WHERE l.id = r.id)
    ELSE NOT EXISTS (
        SELECT FROM {ledger} AS l
        WHERE l.id = r.id AND (l.event_time, l.topic, l.partition, l."offset", l.item)
            = (r.ledger_time, r.ledger_topic, r.ledger_partition, r.ledger_offset, r.ledger_item)
    )
END

-- name: remove_rows
DELETE FROM {table} AS t USING repairs AS r WHERE r.id = t.id AND r.remove_row

-- name: remove_documents
DELETE FROM {documents} AS d USING repairs AS r WHERE r.id = d.id AND r.remove_row

-- name: remove_ledgers
DELETE FROM {ledger} AS l USING repairs AS r WHERE r.id = l.id AND r.remove_ledger

-- name: plan
SELECT
    count(*) FILTER (WHERE resend), count(*) FILTER (WHERE remove_row AND NOT orphan), count(*) FILTER (WHERE orphan),
    count(*) FILTER (WHERE NOT (resend OR remove_row OR remove_ledger)),
    (SELECT count(*) FROM {ledger} WHERE topic = %(topic)s)
FROM repairs

-- name: targets
SELECT DISTINCT target_partition, target_offset FROM repairs WHERE resend ORDER BY target_partition, target_offset
