"""The state machine, the throttle, and what follows a move, without a database."""

import threading
from datetime import UTC, datetime

import numpy as np
import pytest

from embedstream.errors import ConfigError, Rejected, SpaceMoved
from embedstream.ingest import Embedded
from embedstream.migrate import commands, filling, throttle
from embedstream.migrate.filling import Text
from embedstream.migrate.following import Built, Following
from embedstream.migrate.relations import DOCUMENTS, ROWS, check_name
from embedstream.migrate.standing import Standing, as_line, as_lines
from embedstream.migrate.state import Migration, check
from embedstream.retry import Patience
from embedstream.space import Space
from support.stack import wait

NOW = datetime(2026, 11, 28, 12, tzinfo=UTC)
ALLOWED = {
    "copying": {"pause", "resume", "cut-over", "abort"},
    "cut over": {"pause", "resume", "roll-back", "finish"},
}
ONE = Space("one", "r", 3, normalised=True, max_tokens=8)
OTHER = ONE._replace(model_name="other")


@pytest.mark.parametrize("state", ALLOWED)
@pytest.mark.parametrize("step", sorted(set().union(*ALLOWED.values())))
def test_which_step_may_follow(state, step):
    migration = Migration(state, paused=False, share=0.5, started_at=NOW)
    if step in ALLOWED[state]:
        check(migration, "t", step)
    else:
        with pytest.raises(ConfigError, match=rf"^migrate {step}: table t cannot: it has "):
            check(migration, "t", step)
    with pytest.raises(ConfigError, match=r"^table t is not being migrated"):
        check(None, "t", step)


def test_a_name_that_leaves_no_room():
    for layout, most in ((ROWS, 44), (DOCUMENTS, 36)):
        check_name("s." + "t" * most, layout)
        with pytest.raises(ConfigError, match=f"has too long a name for a second one beside it: {most} bytes fit"):
            check_name("s." + "t" * (most + 1), layout)


@pytest.mark.parametrize("url", ["localhost:5001", "ftp://x", "http://user:secret@host"])
def test_an_address_that_is_none(url):
    with pytest.raises(ConfigError, match=r"^--service") as caught:
        commands._url(url)
    assert "secret" not in str(caught.value)


class Clock:
    def __init__(self):
        self.now = 0.0
        self.slept = []

    def sleep(self, seconds):
        self.slept.append(seconds)
        self.now += seconds

    def throttle(self, share, *lags):
        lags = iter(lags)
        return throttle.Throttle(share, lambda: next(lags), self.sleep, lambda: self.now)


@pytest.mark.parametrize(("share", "rest"), [(1.0, 0.0), (0.5, 2.0), (0.25, 6.0)])
def test_a_share_of_the_time(share, rest):
    clock = Clock()
    clock.throttle(share, 0).rest(2.0)
    assert clock.slept == [rest]


def test_work_rests_while_the_live_stream_is_behind():
    clock = Clock()
    limited = clock.throttle(1.0, 5000, 5000, 10, None)
    for _ in range(4):
        limited.rest(0.0)
    assert clock.slept.count(throttle.LOOK_SECONDS) == 2
    assert not limited.is_behind


def test_without_an_answer_only_the_share_holds():
    clock = Clock()
    limited = clock.throttle(0.5, None)
    limited.rest(1.0)
    limited.rest(1.0)
    assert clock.slept == [1.0, 1.0]


def test_vectors_lie_one_after_the_other_and_what_is_refused_has_none():
    results = [Embedded(np.ones(3, np.float32), 5, False), Rejected("embed", "too_long", "it is"), None]
    results[2] = Embedded(np.zeros(3, np.float32), 6, True)
    made = filling.Made([Text("a", "x"), Text("b", "y"), Text("c", "z")], results)
    found = filling.as_arrays(made)
    assert (found["first"], found["last"]) == ([1, None, 4], [3, None, 6])
    assert found["vectors"].tolist() == [1, 1, 1, 0, 0, 0]
    assert (found["token_count"], found["truncated"]) == ([5, 0, 6], [False, False, True])
    assert made.refused == {"b": "it is"}
    assert filling.as_arrays(filling.Made([Text("b", "y")], results[1:2]))["vectors"].size == 0


class Fickle:
    """An ingest of one space, that finds the table in another one after some batches."""

    def __init__(self, space, batches):
        self.space = space
        self.left = batches
        self.texts_embedded = self.texts_known = 0

    def __call__(self, records):
        if not self.left:
            raise SpaceMoved("moved")
        self.left -= 1
        self.texts_embedded += len(records)
        self.texts_known += 1
        return [self.space] * len(records)


def following(*ingests):
    made, closed = iter(ingests), []

    def build():
        each = next(made)
        return Built(each, each.space, lambda: closed.append(each.space))

    return Following(build, Patience(sleep=lambda _: None)), closed


def test_a_batch_that_meets_a_cut_over_is_ingested_again_in_the_other_space():
    follow, closed = following(Fickle(ONE, 2), Fickle(OTHER, 1), Fickle(ONE, 9))
    assert [follow("ab") for _ in range(4)] == [[ONE] * 2, [ONE] * 2, [OTHER] * 2, [ONE] * 2]
    assert closed == [ONE, OTHER]
    assert (follow.texts_embedded, follow.texts_known) == (8, 4)


def test_a_table_that_moves_while_an_ingest_is_built_is_followed():
    given = iter([SpaceMoved("moved"), Fickle(ONE, 1), SpaceMoved("moved"), Fickle(OTHER, 1)])

    def build():
        each = next(given)
        if isinstance(each, SpaceMoved):
            raise each
        return Built(each, each.space, lambda: None)

    follow = Following(build, Patience(sleep=lambda _: None))
    assert [follow("a") for _ in range(2)] == [[ONE], [OTHER]]


def test_a_table_that_contradicts_itself_is_waited_for():
    follow, closed = following(Fickle(ONE, 0), Fickle(ONE, 0), Fickle(ONE, 0), Fickle(OTHER, 1))
    assert follow("a") == [OTHER]
    assert closed == [ONE, ONE, ONE]


def standing(**facts):
    return Standing(
        **{
            "table": "t", "state": "copying", "space": "one", "other_space": "other", "service_url": "http://o",
            "paused": False, "share": 0.25, "started_at": NOW, "switched_at": None, "rows": 1000, "copied": 400,
            "pending": 10, "rate": None, "is_worked_on": False, "eta_seconds": None, **facts,
        }
    )  # fmt: skip


@pytest.mark.parametrize(
    ("facts", "line"),
    [
        ({}, "to other: 390 of 1,000 rows, nobody works on it: embedstream migrate resume"),
        ({"rate": 100.0, "eta_seconds": 6.1}, "to other: 390 of 1,000 rows, 100 rows/s, done in 6.1 s"),
        ({"paused": True}, "to other: 390 of 1,000 rows, paused: embedstream migrate resume"),
        ({"copied": 1000, "pending": 0}, "to other: 1,000 of 1,000 rows, ready for embedstream migrate cut-over"),
        ({"copied": 1000, "pending": 0, "lacks": ["i"]}, "to other: 1,000 of 1,000 rows, the i to be built"),
        ({"state": "cut over", "pending": 0, "copied": 1000}, "cut over to one; the table before is kept in step"),
        ({"unit": "documents"}, "to other: 390 of 1,000 documents, nobody works on it: embedstream migrate resume"),
        ({"state": "cut over"}, "cut over to one; the table before is kept in step, which lacks 610 rows"),
    ],
)
def test_how_far_it_is_in_one_line(facts, line):
    assert as_line(standing(**facts)) == line


def test_what_is_refused_plays_no_tricks():
    text = as_lines(standing(refused={"a\x1b[2J": "why\n"}))
    assert "\x1b" not in text
    assert "refused    a\N{REPLACEMENT CHARACTER}[2J: why" in text


def test_a_broker_that_does_not_answer_holds_up_nobody():
    asked, answer = threading.Event(), threading.Event()

    def ask():
        asked.set()
        answer.wait(10)
        return 7

    watched = throttle.Watched(ask)
    assert asked.wait(5)
    assert watched() is None
    answer.set()
    wait(lambda: watched() == 7, 5, "the answer")
