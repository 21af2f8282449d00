import re
from datetime import UTC, datetime
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families
from pydantic import SecretStr

from embedstream.audit.report import KINDS, Outcomes, Report
from embedstream.console.metrics import METRICS
from embedstream.console.tasks import Task
from embedstream.console.watcher import Watcher
from embedstream.errors import ConfigError
from embedstream.index.state import Index
from embedstream.search.answer import Answer
from embedstream.status.health import Health
from embedstream.status.read import Partition, Status
from support.console import Observer, console

ROOT = Path(__file__).resolve().parents[2]
LOCAL = {"base_url": "http://localhost:8083"}
BUSY = Status(
    "topic", "table", job="RUNNING", messages=9, lag=3, partitions=[Partition(0, 5, 7, 2), Partition(1, 1, 2, 1)],
    oldest_unread_seconds=1.5, eta_seconds=2.0, rate=1.5, rows=4, deleted=1, dead_letters=0, late=6,
    outcomes={"stored": 5}, latency_ms={"p50": 20, "p99": 900}, since_checkpoint_seconds=3.0, failed_checkpoints=2,
    index=Index("building", percent=41.5), health=Health("degraded", ["so"]),
)  # fmt: skip
NOTHING_KNOWN = Status("t", "t", away={"kafka": "-", "database": "-", "service": "-"})
REPORT = Report("topic", "table", 9, 9, Outcomes(9), (), 0, 0, 0, 0, {"stale": 2, "lost": 1}, ())


def scraped(app):
    answer = app.test_client().get("/metrics", **LOCAL)
    assert answer.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    families = text_string_to_metric_families(answer.text)
    return {
        (sample.name.removeprefix("embedstream_"), *sorted(sample.labels.items())): sample.value
        for family in families
        for sample in family.samples
    }


def of(samples, name, pipeline="embedstream"):
    """The value, or by the other label."""
    found = {
        tuple(value for label, value in labels if label != "pipeline"): number
        for (metric, *labels), number in samples.items()
        if metric == name and ("pipeline", pipeline) in labels
    }
    return found[()] if set(found) == {()} else {label: number for (label,), number in found.items()}


def test_a_reading_is_told_number_by_number():
    samples = scraped(console(BUSY))
    assert of(samples, "up") == {"kafka": 1, "database": 1, "jobmanager": 1, "service": 1, "job": 1}
    assert of(samples, "health") == {"healthy": 0, "degraded": 1, "down": 0}
    assert of(samples, "lag_messages") == {"0": 2, "1": 1}
    assert of(samples, "index_state") == {"none": 0, "building": 1, "valid": 0, "invalid": 0}
    assert of(samples, "job_messages_total") == {"stored": 5}
    assert of(samples, "job_latency_seconds") == {"0.50": 0.02, "0.99": 0.9}
    numbers = {
        "topic_messages": 9, "oldest_unread_seconds": 1.5, "eta_seconds": 2, "rows": 4, "deleted_ids": 1,
        "dead_letters": 0, "late_total": 6, "since_checkpoint_seconds": 3, "failed_checkpoints_total": 2,
        "rows_per_second": 1.5, "index_build_percent": 41.5, "health_max_age_seconds": 80,
        "health_max_waiting_seconds": 70, "search_incomplete_total": 0,
    }  # fmt: skip
    assert {name: of(samples, name) for name in numbers} == numbers
    assert abs(of(samples, "observed_timestamp_seconds") - datetime.now(UTC).timestamp()) < 60


ALWAYS = {"health_max_age_seconds", "health_max_waiting_seconds", "search_incomplete_total"}


def told(samples):
    return {name for name, *_ in samples if not name.endswith("_created")}


def test_what_is_not_known_has_no_sample():
    assert told(scraped(console())) == ALWAYS
    samples = scraped(console(NOTHING_KNOWN))
    assert told(samples) == ALWAYS | {"up", "health", "observed_timestamp_seconds"}
    assert of(samples, "up") == {"kafka": 0, "database": 0, "jobmanager": 1, "service": 0, "job": 0}


def test_a_job_of_which_nobody_knows_is_not_said_to_be_down():
    away = Status("t", "t", away={"jobmanager": "-"})
    assert "job" not in of(scraped(console(away)), "up")


def test_where_nothing_answers_the_parts_are_down():
    samples = scraped(console(ConfigError("all is away")))
    assert of(samples, "up") == {"kafka": 0, "database": 0, "jobmanager": 0}
    assert of(samples, "health") == {"healthy": 0, "degraded": 0, "down": 1}


def test_where_all_is_read_nothing_is_old():
    assert of(scraped(console(Status("t", "t", lag=0))), "oldest_unread_seconds") == 0
    assert "oldest_unread_seconds" not in told(scraped(console(Status("t", "t", lag=5))))


def test_every_pipeline_has_its_own_numbers():
    app = console(BUSY, names=("one", "two"))
    samples = scraped(app)
    assert of(samples, "rows", "one") == 4
    assert of(samples, "rows", "two") == {}
    assert of(samples, "search_incomplete_total", "two") == 0


def ended(app, state, result=None):
    moment = datetime(2026, 11, 28, tzinfo=UTC)
    task = Task("audit embedstream", moment, state, result=result, ended=moment)
    app.extensions["parts"].tasks._tasks[task.key] = task


def test_the_last_audit_that_ended_is_told_until_another_has():
    app = console()
    ended(app, "failed")
    assert "audit_findings" not in told(scraped(app))
    ended(app, "done", REPORT)
    samples = scraped(app)
    assert of(samples, "audit_findings") == {**dict.fromkeys(KINDS, 0), "stale": 2, "lost": 1}
    assert of(samples, "audit_timestamp_seconds") == datetime(2026, 11, 28, tzinfo=UTC).timestamp()
    ended(app, "cancelled")
    assert of(scraped(app), "audit_findings")["stale"] == 2


def test_searches_are_counted_wherever_they_are_answered():
    app = console(answer=Answer((), "exact", complete=False, as_of=None, took_ms={"wait": 1e6}))
    client = app.test_client()
    client.post("/v1/search", json={"query": "x"}, **LOCAL)
    client.get("/search?q=x", **LOCAL)
    client.post("/v1/search", json={}, **LOCAL)
    samples = scraped(app)
    labels = [("method", "exact"), ("pipeline", "embedstream")]
    assert samples["search_seconds_count", labels[0], ("mode", "semantic"), labels[1]] == 1
    assert samples["search_seconds_count", labels[0], ("mode", "hybrid"), labels[1]] == 1
    assert samples["search_seconds_sum", labels[0], ("mode", "semantic"), labels[1]] == 0
    assert of(samples, "search_incomplete_total") == 2


def test_scraping_does_not_count_as_watching():
    app = console(BUSY)
    scraped(app)
    assert app.extensions["parts"].chosen(None).watcher._asked == 0


def test_a_watcher_tells_what_it_saw_to_who_does_not_watch():
    watcher = Watcher(Observer(BUSY))
    assert watcher.seen() is None
    assert watcher.look() == watcher.seen()


ACCEPT = {"Accept": "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5,*/*;q=0.1"}


@pytest.mark.parametrize(("key", "status"), [("reader", 200), ("writer", 200), ("guess", 401), (None, 401)])
def test_with_keys_prometheus_needs_one_and_is_led_to_no_login(key, status):
    app = console(console_api_key=SecretStr("writer"), console_read_key=SecretStr("reader"))
    headers = {**ACCEPT, **({"Authorization": f"Bearer {key}"} if key else {})}
    assert app.test_client().get("/metrics", headers=headers).status_code == status


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("console:8083", 200),
        ("embedstream-console-1", 200),
        ("evil.example:8083", 421),
        ("10.0.0.1", 421),
        ("a.b", 421),
    ],
)
def test_a_container_asks_by_its_neighbour_s_name(host, status):
    client = console().test_client()
    assert client.get("/metrics", headers={"Host": host}).status_code == status
    assert client.get("/v1/pipelines", headers={"Host": host}).status_code == 421


def test_every_metric_is_explained():
    text = (ROOT / "docs" / "reference" / "metrics.md").read_text()
    for metric in METRICS:
        [family] = [metric.family()]
        total = "_total" if family.type == "counter" else ""
        label = f"{{{metric.label}}}" if metric.label else ""
        assert f"| `{family.name}{total}{label}` |" in text
    assert {"embedstream_search_seconds", "embedstream_search_incomplete_total"} <= set(re.findall(r"`(\w+)[`{]", text))


def test_every_kind_of_finding_is_known():
    text = (ROOT / "docs" / "reference" / "audit.md").read_text()
    table = text[text.index("| `orphan` |") :].partition("\n\n")[0]
    assert set(re.findall(r"^\| `(\w+)`", table, flags=re.MULTILINE)) == set(KINDS)
