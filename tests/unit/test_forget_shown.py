"""How the record of an erasure is told."""

import dataclasses
from datetime import UTC, datetime, timedelta

import pytest

from embedstream.decode.spec import Decoding, Formats
from embedstream.errors import ConfigError
from embedstream.forget import Copy, Erasure, Kept, Relation
from embedstream.forget.show import as_text
from embedstream.journey.report import Looked
from embedstream.send import Checker
from embedstream.settings import load_settings

MOMENT = datetime(2026, 11, 28, 2, 19, 50, tzinfo=UTC)
COPY = Copy(0, 7, MOMENT, keyed=True)
OTHER = Copy(0, 9, MOMENT + timedelta(hours=1), keyed=False)
LEDGER = "the ledger keeps the id without its text, so that no older record brings it back"
DAY = 86_400_000
NOTHING = Kept("t", (), "delete", DAY)
ERASED = Erasure(
    "a", "e", MOMENT, 0, 12, True, True, MOMENT, "deleted", NOTHING, dataclasses.replace(NOTHING, topic="d"),
    (Relation("e", 0, MOMENT, vacuumed=True),), ("e_hnsw",), (Looked(0, 0, 12, 0, 12),), complete=True,
)  # fmt: skip


def erased(**facts):
    return as_text(dataclasses.replace(ERASED, **facts))


def test_where_nothing_is_left():
    assert erased().splitlines() == [
        "a: the row is gone, 2026-11-28 02:19:50.000 UTC",
        f"its delete stands at 0:12 of topic t; {LEDGER}",
        "",
        "the text still stands in",
        "  no place that was looked at",
        "",
        "it cannot be seen from here in",
        "  PostgreSQL's write-ahead log, its replicas and its backups",
        "  copies of the topics: mirrors, tiered storage, other consumers",
        "  the source of the message, which may send it again",
    ]


@pytest.mark.parametrize(
    ("kept", "says"),
    [
        (Kept("t", (COPY, OTHER), "delete", DAY),
         "at 0:7, 0:9: until its segments are older than 1 d 0 h (retention.ms), the last not before 2026-11-29 03"),
        (Kept("t", (COPY,), "delete", -1), "for ever (retention.ms is -1): kafka-delete-records.sh"),
        (Kept("t", (COPY,), "delete", None), "which the broker does not tell"),
        (Kept("t", (COPY,), None, None), "for a time that the broker does not tell"),
        (Kept("t", (COPY,), "compact", -1), "topic t at 0:7: until it is compacted\n"),
        (Kept("t", (COPY, OTHER), "compact", -1), "compaction does not remove those whose key is another\n"),
        (Kept("t", (COPY,), "compact,delete", 1000), "; until it is compacted\n"),
        (Kept("t", (COPY,), "delete", 10**18), "(retention.ms)\n"),
        (Kept("t", (COPY,) * 12, "delete", -1), " and 2 more: for ever"),
    ],
)  # fmt: skip
def test_how_long_a_topic_keeps_the_text(kept, says):
    assert says in erased(topic=kept)


def test_compaction_of_dead_letters_knows_nothing_of_the_delete():
    assert "compaction does not remove" in erased(dead_letters=Kept("d", (COPY,), "compact", -1))


@pytest.mark.parametrize(
    ("relation", "says"),
    [
        (Relation("e", 3, None, vacuumed=False), "e, as dead rows until vacuum: 3 dead rows, never vacuumed yet"),
        (Relation("e", 0, MOMENT, vacuumed=False), "vacuumed last 2026-11-28 02:19:50.000 UTC, which was before"),
        (Relation("e", 3, MOMENT, vacuumed=True), "3 dead rows, vacuumed last 2026-11-28 02:19:50.000 UTC\n"),
    ],
)
def test_dead_rows(relation, says):
    text = erased(relations=(relation,))
    assert says in text
    assert ("its vectors and words in e_hnsw until the same vacuum" in text) is not relation.vacuumed


def test_a_row_that_is_not_gone():
    text = erased(gone=False, gone_at=None, outcome="superseded")
    assert text.splitlines()[:3] == [
        "a: its row is not known to be gone from table e",
        "its delete stands at 0:12 of topic t, superseded: has a newer version",
        "embedstream where tells how it stands by now",
    ]


def test_what_was_not_looked_at():
    text = erased(complete=False, looked_at=(Looked(0, 4, 12, 0, 12),))
    assert "looked at\n  partition 0: offsets 4 to 12 of offsets 0 to 12\n" in text


def test_deletes_go_to_topics_of_any_format_but_lines_do_not():
    settings = load_settings().model_copy(update={"decoding": Decoding(format=Formats(value="text"), text="value")})
    checker = Checker(settings, "id")
    assert checker.delete(1, "a").id == "a"
    with pytest.raises(ConfigError, match="the pipeline reads another format"):
        checker.line(1, b"{}")
