import pandas as pd
import pytest

from embedstream.errors import Rejected
from embedstream.ingest import Outcome
from embedstream.job import tables
from embedstream.job.__main__ import options
from embedstream.job.function import IngestFunction, _row
from embedstream.settings import load_settings


def test_names_are_quoted():
    assert tables.quoted("it's") == "'it''s'"
    assert "'topic' = 'it''s'" in tables.source(load_settings(kafka_input_topic="it's"))


def test_no_secret_is_in_the_sql():
    settings = load_settings(
        kafka_security_protocol="SASL_SSL", kafka_sasl_mechanism="SCRAM-SHA-512", kafka_sasl_username="u-s-e-r",
        kafka_sasl_password="s3cret", pgvector_password="s3cret", kafka_ssl_ca_location="/ca.pem",
    )  # fmt: skip
    for statement in (tables.source(settings), tables.dead_letters(settings), tables.insert(settings)):
        assert "s3cret" not in statement
        assert "u-s-e-r" not in statement
    assert "ScramLoginModule required" in tables.source(settings)
    assert "'properties.ssl.truststore.location' = '/ca.pem'" in tables.dead_letters(settings)
    assert not any("s3cret" in value or "u-s-e-r" in value for value in options(settings).values())


def test_the_job_never_fails_for_a_checkpoint_that_expired():
    assert options(load_settings())["execution.checkpointing.tolerable-failed-checkpoints"] == "2147483647"


@pytest.mark.parametrize(
    ("outcome", "row"),
    [
        (Outcome("stored"), ("stored", None, None, None)),
        (Outcome("rejected", Rejected("decode", "not_json", "no")), ("rejected", "decode", "not_json", "no")),
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
        (b"k", None, "t", 0, 5, 1_764_000_000_123),
        (None, b"\xff", "t", 1, 6, -1),
        2,
    ]
    assert type(seen[0].partition) is int
    assert result.to_numpy().tolist() == [["rejected", "decode", "c", "r"]] * 2


def test_a_dead_letter_counts_its_attempts():
    statement = tables.insert(load_settings())
    assert f"'dlq.attempts', ENCODE(CAST({tables.ATTEMPTS} AS STRING), 'UTF-8')" in statement
