import json
import time
from dataclasses import replace

import httpx
import pytest

from embedstream import flink
from embedstream.display import as_json, duration
from embedstream.errors import ConfigError
from embedstream.index.state import Index
from embedstream.kafka import Head, Identity, Log, Member, Position
from embedstream.settings import load_settings
from embedstream.standing import Standing
from embedstream.status import parts, read
from embedstream.status.health import judge, waits_for
from embedstream.status.read import Observer, Partition, Status
from embedstream.status.show import as_text
from embedstream.status.watch import watch
from embedstream.store import Progress
from support.flink import recorded

SETTINGS = load_settings(flink_checkpoint_interval_ms=10_000)
JOB = recorded("jobs.json")["jobs"][0] | {"jid": "j1", "start-time": 1_000_000}
METRIC = recorded("metrics.json")[0]
WELL = Status(
    "text-messages", "some_table", job="RUNNING", messages=100, lag=0, partitions=[], rows=90, deleted=1,
    dead_letters=2, rate=10.0, seconds=2.0, eta_seconds=0.0, since_checkpoint_seconds=3.0, service="org/model",
)  # fmt: skip


class JobManager:
    """Flink's REST API, as far as it is used."""

    def __init__(self, jobs=(JOB,), completed=1_010_000, metrics=()):
        self.jobs = jobs
        self.completed = completed
        self.metrics = dict(metrics)

    def __call__(self, request):
        path = request.url.path
        if path == "/jobs/overview":
            return httpx.Response(200, json={"jobs": self.jobs})
        if path == "/jobs/j1":
            vertices = [recorded("job.json")["vertices"][0] | {"id": id} for id in ("v1", "v2")]
            return httpx.Response(200, json=recorded("job.json") | {"now": 1_040_000, "vertices": vertices})
        if path == "/jobs/j1/checkpoints":
            answer = recorded("checkpoints.json")
            answer["counts"]["failed"] = 2
            completed = answer["latest"]["completed"] | {"latest_ack_timestamp": self.completed}
            answer["latest"]["completed"] = completed if self.completed else None
            return httpx.Response(200, json=answer)
        if path == "/jobs/j1/vertices/v1/subtasks/metrics":
            return httpx.Response(200, json=self.values(request.url.params))
        return httpx.Response(200, json=[])

    def values(self, params):
        if "get" not in params:
            return [{"id": f"Calc.{name}"} for name in [*self.metrics, "numRecordsIn"]]
        assert params["agg"] == "sum,max"
        wanted = [name.removeprefix("Calc.") for name in params["get"].split(",")]
        return [
            METRIC | {"id": f"Calc.{name}", "sum": sum(self.metrics[name]), "max": max(self.metrics[name])}
            for name in wanted
        ]


def cluster(**facts):
    return flink.Cluster(SETTINGS, httpx.MockTransport(JobManager(**facts)))


def test_what_the_job_says():
    metrics = {"stored": [3.0, 4.0], "retries": [1.0, 0.0], "latency_p50_ms": [20.0, 60.0]}
    assert parts.read_work(SETTINGS, cluster(metrics=metrics)) == parts.Work(
        "RUNNING", 30.0, 2, {"stored": 7}, {"retries": 1}, {"p50": 60}
    )


def test_a_job_that_has_just_started_has_no_checkpoint_and_no_numbers():
    assert parts.read_work(SETTINGS, cluster(completed=None)) == parts.Work("RUNNING", 40.0, 2)


def test_no_job():
    assert parts.read_work(SETTINGS, cluster(jobs=())) == parts.Work(None)


@pytest.mark.parametrize(
    ("changes", "limits", "state", "says"),
    [
        ({}, {}, "healthy", None),
        ({"job": None}, {}, "down", "embedstream submit"),
        ({"job": None, "away": {"jobmanager": "no JobManager"}}, {}, "down", "no JobManager"),
        ({"job": "RESTARTING"}, {}, "degraded", "the job is RESTARTING"),
        ({"away": {"service": "no service answers"}}, {}, "degraded", "no service answers"),
        ({"oldest_unread_seconds": 79.0}, {}, "healthy", None),
        ({"oldest_unread_seconds": 81.0}, {}, "degraded", "waited for 81 s"),
        ({"oldest_unread_seconds": 26.0}, {"health_max_age_seconds": 5}, "degraded", "waited for 26 s"),
        ({"lag": 10**9}, {}, "healthy", None),
        ({"lag": 11}, {"health_max_lag": 10}, "degraded", "11 messages are unread"),
        ({"lag": 10}, {"health_max_lag": 10}, "healthy", None),
        ({"since_checkpoint_seconds": 71.0}, {}, "degraded", "no checkpoint has completed for 71 s"),
        ({"since_checkpoint_seconds": 71.0}, {"health_max_waiting_seconds": 100}, "healthy", None),
    ],
)
def test_health(changes, limits, state, says):
    found = judge(replace(WELL, **changes), SETTINGS.model_copy(update=limits))
    assert found.state == state
    assert (says is None and not found.reasons) or says in found.reasons[0]


def test_what_the_job_waits_for():
    away = {"service": "x", "kafka": "x"}
    assert waits_for(replace(WELL, away=away, since_checkpoint_seconds=30.0), SETTINGS) == ["service"]
    assert waits_for(replace(WELL, away=away), SETTINGS) == []
    assert waits_for(replace(WELL, since_checkpoint_seconds=30.0), SETTINGS) == []


def aged(offset, seconds):
    return Head(offset, int((time.time() - seconds) * 1000))


def queue(positions, progress=(), members=(), identity=None):
    return parts.Queue(Standing("text-messages", "g", dict(progress), Log(positions, list(members)), identity), 3)


class World:
    """The parts, each with its answer, or an error to raise."""

    def __init__(self, monkeypatch):
        self.positions = [
            Position(0, 0, 100, 60, looked=True, head=aged(60, seconds=12.1)),
            Position(1, 5, 5, None, looked=True),
        ]
        self.queue = queue(self.positions)
        self.rows = parts.Rows(50, 2, 1000, Index("none"))
        self.work = parts.Work("RUNNING", 1.0, 0, {"stored": 60}, {"retries": 0}, {"p50": 80})
        self.service = parts.Service("org/model")
        for name in ("queue", "rows", "work", "service"):
            monkeypatch.setattr(parts, f"read_{name}", lambda *_, name=name: self.answer(name))
        monkeypatch.setattr(parts, "read_versions", lambda _: self.answer("rows").versions)
        self.clock = 0.0
        monkeypatch.setattr(read.time, "monotonic", lambda: self.clock)
        monkeypatch.setattr(read.time, "sleep", self.sleep)

    def answer(self, name):
        answer = getattr(self, name)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def sleep(self, seconds):
        self.clock += seconds
        if isinstance(self.rows, parts.Rows):
            self.rows = replace(self.rows, versions=self.rows.versions + 40)


@pytest.fixture
def world(monkeypatch):
    return World(monkeypatch)


def test_rate_and_eta(world):
    observer = Observer(SETTINGS)
    status = observer.read()
    assert (status.lag, status.messages, status.rate, status.eta_seconds) == (40, 100, 20.0, 2.0)
    assert status.partitions == [
        Partition(0, 60, 100, 40, unread=40, stable=100, committed=60), Partition(1, 5, 5, 0, first=5, stable=5),
    ]  # fmt: skip
    world.sleep(1)
    assert observer.read().rate == 40.0
    assert status.health.state == "healthy"


@pytest.mark.parametrize(
    ("name", "part", "unknown"),
    [
        ("queue", "kafka", [
                "lag", "messages", "partitions", "oldest_unread_seconds", "dead_letters", "eta_seconds", "unread",
                "counted_by", "behind_transaction", "group_members",
            ]),
        ("rows", "database", ["rows", "deleted", "index", "rate", "seconds", "eta_seconds"]),
        ("work", "jobmanager", [
                "job", "outcomes", "counts", "latency_ms", "since_checkpoint_seconds", "failed_checkpoints",
            ]),
        ("service", "service", ["service"]),
    ],
)  # fmt: skip
def test_a_part_that_is_away_costs_only_itself(world, name, part, unknown):
    whole = json.loads(as_json(Observer(SETTINGS).read()))
    setattr(world, name, ConfigError("it is away: start it"))
    status = Observer(SETTINGS).read()
    assert status.away == {part: "it is away: start it"}
    facts = json.loads(as_json(status))
    assert [key for key in unknown if facts[key] is not None] == []
    assert [key for key, value in facts.items() if value is None and whole[key] is not None] == [
        key for key in facts if key in unknown
    ]
    assert status.health.state == ("down" if part == "jobmanager" else "degraded")
    assert as_text(status).count("it is away: start it") == 1


def test_nothing_answers(world):
    world.queue = world.rows = world.work = ConfigError("away")
    with pytest.raises(ConfigError, match="away; away; away"):
        Observer(SETTINGS).read()


def test_the_status_for_people(world):
    assert as_text(Observer(SETTINGS).read()).splitlines() == [
        "health                         healthy",
        "job                            RUNNING, last checkpoint 1.0 s ago",
        "topic text-messages            100 messages",
        "  partition 0                  40 behind",
        "backlog                        40 beyond the last checkpoint, the oldest 12 s old, done in 2.0 s",
        "table text_message_embeddings  50 rows, 2 ids deleted, 20.0 rows/s over the last 2 s",
        "index                          none",
        "outcomes                       60 stored",
        "work                           0 retries",
        "latency                        p50 80 ms",
        "dead letters                   3",
        "service                        org/model",
    ]


@pytest.mark.parametrize(
    ("index", "lag", "says"),
    [
        (Index("valid", "i", bytes=3 * 2**20), 10_000, "i is valid, 3 MiB"),
        (Index("valid", "i", bytes=3 * 2**20), 10_001, "cheaper: embedstream index drop"),
        (Index("building", phase="building index: loading tuples", percent=41.7), 0, "loading tuples, 42 %"),
        (Index("building"), 0, "is being built: phase not known"),
        (Index("invalid", "i"), 0, "i is invalid, its build ended early: embedstream index build"),
    ],
)
def test_the_index_for_people(index, lag, says):
    (line,) = [line for line in as_text(replace(WELL, index=index, lag=lag)).splitlines() if line.startswith("index")]
    assert line.endswith(says)


@pytest.mark.parametrize(
    ("changed", "facts", "says", "line"),
    [
        ({"held_from": 60, "held": 61}, {}, "40 offsets of partition 0 wait behind a transaction",
         "  partition 0                  40 wait behind a transaction, open for 61 s"),
        ({"held_from": 60}, {}, "open for a time that is not known",
         "  partition 0                  40 wait behind a transaction"),
        ({"held_from": 60, "held": 50}, {}, None,
         "  partition 0                  40 wait behind a transaction, open for 50 s"),
        ({"committed": 10_000_000}, {}, "group g stands at offset 10,000,000 of partition 0, beyond its end 100",
         "  partition 0                  its offset lies beyond the end 100"),
        ({"committed": 60, "first": 70, "looked": False}, {}, None,
         "  partition 0                  30 behind; up to 10 expired unread"),
        ({}, {"members": [Member("rdkafka", "/10.0.0.7")]}, "a member that is not the job: rdkafka at 10.0.0.7", None),
        ({}, {"progress": {0: Progress("a", "c", 60, 0, 9, None, 0.0)}, "identity": Identity("c", "b")},
         "topic text-messages (id b) is another topic than the one that the table was filled from (a)", None),
        ({}, {"progress": {0: Progress("a", "c", 60, 0, 9, None, 0.0)}, "identity": Identity("d", "a")},
         "topic text-messages (cluster d) is another topic than the one that the table was filled from (c)", None),
        ({}, {"progress": {0: Progress(None, "c", 60, 0, 9, None, 0.0)}, "identity": Identity("c", "b")}, None, None),
        ({}, {"progress": {0: Progress("a", "c", 60, 7, 9, None, 0.0)}}, None,
         "  partition 0                  7 late"),
    ],
)  # fmt: skip
def test_what_stands_between_table_and_topic_is_told(world, changed, facts, says, line):
    """In the health where data may be missing, and in the line of the partition; by --json in the same words."""
    position = Position(0, 0, 100, 100, looked=True)._replace(**changed)
    if position.held:
        position = position._replace(held=aged(60, seconds=position.held + 0.1))
    world.queue = queue([position], **facts)
    status = Observer(SETTINGS).read()
    assert [says in reason for reason in status.health.reasons] == ([True] if says else [])
    assert status.troubles == status.health.reasons
    assert line is None or line in as_text(status).splitlines()
    assert min(part.lag for part in status.partitions) >= 0


@pytest.mark.parametrize(("clock_ahead", "waited"), [(3600.0, 90.0), (4.0, 0.0)])
def test_a_record_dated_ahead_has_waited_as_long_as_the_table_took_nothing(world, clock_ahead, waited):
    """A producer's clock may be ahead: by its record's own time a partition that stands still would never be late."""
    head = aged(98, seconds=-clock_ahead)
    position = Position(0, 0, 100, 98, recorded=98, looked=True, head=head, idle=90.0)
    world.queue = queue([position], {0: Progress("a", "c", 98, 0, 9, None, 90.0)})
    status = Observer(SETTINGS).read()
    assert status.oldest_unread_seconds == waited
    assert status.health.state == ("degraded" if waited else "healthy")


def test_a_job_without_its_topic_is_not_healthy(world):
    world.queue = queue([])
    status = Observer(SETTINGS).read()
    assert status.health.state == "degraded"
    assert status.health.reasons == [
        "there is no topic text-messages: embedstream submit --replace makes it, or set KAFKA_INPUT_TOPIC, or KAFKA_*"
    ]


def test_progress_of_the_table_counts_before_the_group(world):
    """Two offsets behind by the table, none by the group: what the table says is told, and where it comes from."""
    position = Position(0, 0, 100, 100, recorded=98, looked=True, head=aged(98, seconds=0))
    world.queue = queue([position], {0: Progress("a", "c", 98, 0, 9, None, 0.0)})
    status = Observer(SETTINGS).read()
    assert (status.lag, status.unread, status.counted_by, status.partitions[0].next) == (2, 2, "table", 98)
    assert "2 beyond what the table has" in as_text(status)


def test_a_waiting_job_says_for_what(world):
    world.service = ConfigError("no service answers")
    world.work = world.work._replace(since_checkpoint_seconds=95.0)
    text = as_text(Observer(SETTINGS).read())
    assert "RUNNING, waits for the service, last checkpoint 95 s ago" in text


@pytest.mark.parametrize("as_lines", [True, False])
def test_watching_ends_quietly_and_bears_that_nothing_answers(world, monkeypatch, as_lines):
    said = []

    def say(line):
        said.append(line)
        if len(said) == 1:
            world.queue = world.rows = world.work = ConfigError("away")
        if len(said) == 2:
            raise KeyboardInterrupt

    watch(Observer(SETTINGS), say, json=as_lines)
    assert len(said) == 2
    assert "away" in said[1]
    if as_lines:
        assert json.loads(said[0])["lag"] == 40
        assert "\n" not in said[0]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.25, "0.2 s"), (42.4, "42 s"), (200, "3 min 20 s"), (3600, "1 h 0 min"), (18_720, "5 h 12 min"),
        (183_600, "2 d 3 h"),
    ],
)  # fmt: skip
def test_durations(seconds, text):
    assert duration(seconds) == text
