from concurrent.futures import ThreadPoolExecutor

import pytest

from embedstream.errors import RetryLater
from embedstream.retry import LONGEST_DELAY, Patience


def failing(times, retry_after=None):
    left = [times]

    def call():
        left[0] -= 1
        if left[0] >= 0:
            raise RetryLater("away", retry_after)
        return "done"

    return call


def test_delays_grow_to_their_bound_with_jitter():
    waits = []
    assert Patience(sleep=waits.append)(failing(20)) == "done"
    assert waits[0] <= 0.2
    assert all(LONGEST_DELAY / 2 <= wait <= LONGEST_DELAY for wait in waits[8:])
    assert len(set(waits)) == 20


@pytest.mark.parametrize("asked", [0.0, 7.0, 86_400.0, float("inf")])
def test_what_the_other_side_asks_for_is_kept_within_reason(asked):
    waits = []
    Patience(sleep=waits.append)(failing(1, retry_after=asked))
    assert 0.1 <= waits[0] <= 90


def test_other_errors_pass():
    with pytest.raises(ZeroDivisionError):
        Patience()(lambda: 1 // 0)


def test_a_wait_is_visible_while_it_lasts():
    seen = []
    patience = Patience(sleep=lambda _: seen.append(patience.seconds_waited()))
    patience(failing(3))
    assert seen[0] > 0
    assert seen == sorted(seen)
    assert patience.seconds_waited() == 0
    assert patience.retries == 3


def test_waits_add_up_and_those_of_several_threads_count_once(monkeypatch):
    clock = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: clock[0])
    with ThreadPoolExecutor(1) as other:

        def sleep(seconds):
            clock[0] += 5
            if clock[0] == 5:
                other.submit(patience, failing(1)).result(10)

        patience = Patience(sleep)
        patience(failing(1))
        assert patience.seconds_waited_in_all() == 10
        patience(failing(1))
    assert patience.seconds_waited_in_all() == 15


def test_a_long_wait_is_logged_once_a_minute_and_when_it_ends(caplog, monkeypatch):
    clock = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: clock[0])

    def sleep(seconds):
        clock[0] += seconds

    with caplog.at_level("INFO", "embedstream.retry"):
        Patience(sleep)(failing(50, retry_after=10))
    actions = [record.action for record in caplog.records]
    assert actions[-1] == "resumed"
    assert 6 <= actions.count("waiting") <= 13


def test_many_short_waits_are_logged_once_a_minute(caplog, monkeypatch):
    clock = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: clock[0])

    def sleep(seconds):
        clock[0] += seconds

    patience = Patience(sleep)
    with caplog.at_level("INFO", "embedstream.retry"):
        while clock[0] < 170:
            patience(failing(1, retry_after=1))
    assert [record.action for record in caplog.records] == ["waiting", "resumed"] * 3
