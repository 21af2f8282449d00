import re

import pandas as pd
import pytest

from embedstream.errors import Rejected
from embedstream.ingest import Outcome
from embedstream.job import tables
from embedstream.job.__main__ import options
from embedstream.job.function import IngestFunction, _row
from embedstream.limits import BUNDLE_SHARES, SHARE_BYTES, Letter, record_bytes
from embedstream.settings import load_settings


def test_names_are_quoted():
    assert tables.quoted("it's") == "'it''s'"
    assert "'topic' = 'it''s'" in tables.source(load_settings(kafka_input_topic="it's"))


def test_no_secret_is_in_the_sql():
    settings = load_settings(
        kafka_security_protocol="SASL_SSL", kafka_sasl_mechanism="SCRAM-SHA-512", kafka_sasl_username="u-s-e-r",
        kafka_sasl_password="s3cret", pgvector_password="s3cret", kafka_ssl_ca_location="/ca.pem",
    )  # fmt: skip
    letter = Letter.of(1000)
    for statement in (tables.source(settings), tables.dead_letters(settings, letter), tables.insert(settings, letter)):
        assert "s3cret" not in statement
        assert "u-s-e-r" not in statement
    assert "ScramLoginModule required" in tables.source(settings)
    assert "'properties.ssl.truststore.location' = '/ca.pem'" in tables.dead_letters(settings, letter)
    assert not any("s3cret" in value or "u-s-e-r" in value for value in options(settings).values())


def test_the_job_never_fails_for_a_checkpoint_that_expired():
    assert options(load_settings())["execution.checkpointing.tolerable-failed-checkpoints"] == "2147483647"


@pytest.mark.parametrize(
    ("outcome", "row"),
    [
        (Outcome("stored"), ("stored", None, None, None, None)),
        (Outcome("rejected", Rejected("decode", "not_json", "no")), ("rejected", "decode", "not_json", "no", None)),
    ],
)
def test_rows_of_the_result(outcome, row):
    assert _row(outcome) == row


def test_the_function_hands_records_on_as_they_are():
    seen = []

    class Metrics:
        def count(self, ingest, outcomes, recorded, now_ms):
            seen.append(len(outcomes))

    function = IngestFunction(load_settings())
    function._metrics = Metrics()
    function._ingest = lambda records: [
        seen.append(record) or Outcome("rejected", Rejected("decode", "c", "r")) for record in records
    ]
    moments = pd.Series(pd.to_datetime([1_764_000_000_123, -1], unit="ms"))
    columns = [pd.Series(column, dtype=object) for column in ([b"k", None], [None, b"\xff"], ["t", "t"])]
    result = function.eval(*columns, pd.Series([0, 1], dtype="int32"), pd.Series([5, 6]), moments)
    assert seen == [
        (b"k", None, "t", 0, 5, 1_764_000_000_123, {}),
        (None, b"\xff", "t", 1, 6, -1, {}),
        2,
    ]
    assert type(seen[0].partition) is int
    assert result.to_numpy().tolist() == [["rejected", "decode", "c", "r", None]] * 2


def test_the_function_hands_on_the_headers_that_it_asks_for():
    seen = []
    function = IngestFunction(load_settings(), ["a", "b"])
    function._metrics = type("Metrics", (), {"count": lambda *_: None})()
    function._ingest = lambda records: [seen.append(record.headers) or Outcome("stored") for record in records]
    columns = [pd.Series(column, dtype=object) for column in ([b"k"] * 3, [b"v"] * 3, ["t", None, "t"])]
    headers = [pd.Series(column, dtype=object) for column in ([b"1", None, None], [None, None, b"2"])]
    moments = pd.Series(pd.to_datetime([1, 1, 2], unit="ms"))
    function.eval(*columns, pd.Series([0, 0, 0], dtype="int32"), pd.Series([5, 5, 6]), moments, *headers)
    assert seen == [{"a": b"1"}, {"b": b"2"}]
    assert "CAST(headers['it''s'] AS VARBINARY(65536))" in tables.outcomes(load_settings(), ["it's"])


def test_rows_that_only_make_a_large_record_count_are_no_records():
    seen = []

    class Metrics:
        def count(self, ingest, outcomes, recorded, now_ms):
            seen.append((len(outcomes), recorded.tolist()))

    function = IngestFunction(load_settings())
    function._metrics = Metrics()
    function._ingest = lambda records: [seen.append(record) or Outcome("stored") for record in records]
    moments = pd.Series(pd.to_datetime([1, 1, 2], unit="ms"))
    columns = [pd.Series(column, dtype=object) for column in ([b"k", None, None], [b"v", None, b"w"], ["t", None, "t"])]
    result = function.eval(*columns, pd.Series([0, 0, 0], dtype="int32"), pd.Series([5, 5, 6]), moments)
    assert seen == [(b"k", b"v", "t", 0, 5, 1, {}), (None, b"w", "t", 0, 6, 2, {}), (2, [1, 2])]
    assert result["kind"].tolist() == ["stored", None, "stored"]


def test_no_micro_batch_has_more_bytes_than_its_shares_and_one_record():
    """A record larger than 2^n shares is worth at least as many rows as it has shares, or a whole micro-batch."""
    statement = tables.weighed(Letter.of(2**20))
    steps = re.findall(r"v = CAST\(v AS VARBINARY\((\d+)\)\)\) AND .*?THEN (\d+)", statement)
    assert [(int(size), int(rows) + 1) for size, rows in steps] == [
        (rows * SHARE_BYTES, rows) for rows in (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
    ]
    assert f"ELSE {BUNDLE_SHARES - 1} END" in statement


def test_the_function_sees_a_byte_more_than_it_takes_and_no_more():
    assert f"CAST(v AS VARBINARY({record_bytes(1000) + 1}))" in tables.outcomes(load_settings(max_text_bytes=1000))


def test_the_source_holds_few_records_whatever_their_batches_decompress_to():
    assert "'properties.max.poll.records' = '8'" in tables.source(load_settings())


def test_the_sink_takes_every_dead_letter_that_it_is_given():
    letter = Letter.of(2**20)
    statement = tables.dead_letters(load_settings(), letter)
    assert f"'properties.max.request.size' = '{letter.request}'" in statement
    (memory,) = re.findall(r"'properties.buffer.memory' = '(\d+)'", statement)
    assert int(memory) > letter.request


def test_a_dead_letter_counts_its_attempts():
    statement = tables.insert(load_settings(), Letter.of(1000))
    assert f"'dlq.attempts', ENCODE(CAST({tables.ATTEMPTS} AS STRING), 'UTF-8')" in statement
