"""Where a job begins: nothing is left out, whatever became of table, topic and group."""

import pytest

from embedstream import starts
from embedstream.errors import ConfigError
from embedstream.kafka import Identity, Position
from embedstream.settings import load_settings
from embedstream.store import Progress


def progress(stands, **fields):
    facts = {"topic_id": "t1", "cluster_id": "c1", "late": 0, "ids": 0, "back_from": None, "idle": 0.0}
    return Progress(next=stands, **{**facts, **fields})


@pytest.mark.parametrize(
    ("committed", "stands", "begin", "why"),
    [
        (40, 50, 40, "where the group stands, the table is at 50"),
        (50, 40, 40, "where the table stands"),
        (50, 50, 50, "where the table stands"),
        (None, 50, 10, "the group has no offset of it"),
        (50, None, 10, "the table has nothing of it"),
        (None, None, 10, "the table has nothing of it"),
        (50, 101, 10, "the table stands at 101, beyond its end 100"),
        (101, 50, 10, "the group stands at 101, beyond its end 100"),
        (5, 50, 10, "the log begins here: 5 offsets before it were not read"),
        (50, 3, 10, "the log begins here: 7 offsets before it were not read"),
        (100, 100, 100, "where the table stands"),
    ],
)
def test_a_partition_begins_where_nothing_is_left_out(committed, stands, begin, why):
    position = Position(3, 10, 100, committed)
    start = starts.choose(position, None if stands is None else progress(stands), "sound")
    assert start == (3, begin, why)


@pytest.mark.parametrize(("table", "begin"), [("adopted", 10), ("lossy", 10), ("earlier", 50)])
def test_what_the_table_is_comes_before_where_it_stands(table, begin):
    assert starts.choose(Position(0, 10, 100, 50), progress(60), table).offset == begin


def test_a_table_of_an_earlier_version_whose_group_is_gone_is_read_again():
    assert starts.choose(Position(0, 10, 100, None), None, "earlier").offset == 10
    assert starts.choose(Position(0, 10, 100, 101), None, "earlier").offset == 10


@pytest.mark.parametrize(
    ("known", "identity", "what"),
    [
        ({"topic_id": "t0"}, Identity("c1", "t1"), "topic is t1 now"),
        ({"cluster_id": "c0"}, Identity("c1", "t1"), "cluster is c1 now"),
    ],
)
def test_another_topic_of_the_same_name_is_refused_with_what_to_do(known, identity, what):
    with pytest.raises(ConfigError, match=rf"{what}.*--adopt-topic"):
        starts.check_identity(load_settings(), {0: progress(1), 1: progress(1, **known)}, identity)


@pytest.mark.parametrize("identity", [Identity("c1", "t1"), Identity(None, None), Identity("c1", None)])
def test_what_is_not_told_is_no_difference(identity):
    known = {0: progress(1), 1: progress(1, topic_id=None, cluster_id=None)}
    starts.check_identity(load_settings(), known, identity)
