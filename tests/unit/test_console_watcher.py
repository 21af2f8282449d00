import threading

import pytest

from embedstream.console.tasks import Tasks
from embedstream.console.watcher import Watcher
from embedstream.errors import ConfigError, StoreUnavailable
from embedstream.status.read import Status
from support.console import Observer


def status(**facts):
    return Status("topic", "table", **facts)


def test_nothing_is_known_before_the_first_look():
    watcher = Watcher(Observer(status()))
    assert watcher.latest() is None
    assert watcher.points() == []


def test_what_answers_nothing_is_said_and_the_last_points_stay():
    watcher = Watcher(Observer(status(rate=2.0, lag=3, oldest_unread_seconds=4.0), StoreUnavailable("gone")))
    watcher.look()
    watcher.look()
    assert watcher.latest().error == "gone"
    assert [point[1:] for point in watcher.points()] == [(2.0, 3, 4.0)]


def test_unknown_stays_unknown():
    watcher = Watcher(Observer(status()))
    watcher.look()
    assert watcher.points()[0][1:] == (None, None, None)


def test_nothing_unread_is_not_old():
    watcher = Watcher(Observer(status(lag=0)))
    watcher.look()
    assert watcher.points()[0].age == 0.0


def test_ten_viewers_cost_no_more_than_one():
    observer = Observer(status())
    watcher = Watcher(observer)
    watcher.look()
    for _ in range(10):
        watcher.latest()
    assert observer.reads == 1


def test_a_thread_looks_until_it_is_stopped():
    looked = threading.Event()

    class Telling(Observer):
        def read(self):
            looked.set()
            return super().read()

    watcher = Watcher(Telling(status()))
    watcher.start()
    assert looked.wait(5)
    watcher.stop()


def ended(task):
    for _ in range(500):
        if not task.is_running:
            return task
        threading.Event().wait(0.01)
    raise AssertionError(task)


def test_a_task_tells_how_far_it_is_and_what_came_of_it():
    tasks, go, at = Tasks(), threading.Event(), threading.Event()

    def work(watch):
        with watch("reading", 10) as update:
            update(4)
            at.set()
            go.wait(5)
        return "result"

    task = tasks.start("key", work)
    assert at.wait(5)
    assert (task.doing, task.done, task.total, task.state) == ("reading", 4, 10, "running")
    assert tasks.start("key", work) is task
    go.set()
    assert (ended(task).state, task.result) == ("done", "result")
    assert tasks.ensure("key", work, 60.0) is task
    assert tasks.ensure("key", lambda _: "another", 0.0) is not task


@pytest.mark.parametrize(
    ("error", "said"),
    [(ConfigError("no table"), "no table"), (ValueError("secret"), "it failed; the console's log says more")],
)
def test_a_task_that_fails_says_why(error, said):
    def work(_):
        raise error

    task = ended(Tasks().start("key", work))
    assert (task.state, task.error) == ("failed", said)


def test_a_task_is_cancelled_where_it_tells_its_progress():
    tasks, at = Tasks(), threading.Event()

    def work(watch):
        with watch("reading") as update:
            at.set()
            for done in range(1000):
                update(done)
                threading.Event().wait(0.01)

    task = tasks.start("key", work)
    assert at.wait(5)
    tasks.cancel("key")
    assert ended(task).state == "cancelled"


def test_only_so_many_are_kept():
    tasks = Tasks()
    for number in range(300):
        ended(tasks.start(str(number), lambda _: None))
    assert tasks.last("0") is None
    assert tasks.last("299") is not None
