"""What every panel and every alert asks is answered by a real Prometheus, over parts that are made up."""

import itertools
import json
import math
import re
from collections import Counter
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from pydantic import SecretStr

from embedstream.audit.report import Outcomes, Report
from embedstream.console.tasks import Task
from embedstream.errors import ConfigError
from embedstream.index.state import Index
from embedstream.job.metrics import JobMetrics
from embedstream.retry import Patience
from embedstream.search.answer import Answer
from embedstream.service.batching import Embedded
from embedstream.service.metrics import BatchFacts, Metrics
from embedstream.status.health import Health
from embedstream.status.read import Partition, Status
from support.console import console
from support.prometheus import MISSING, PROMETHEUS, prometheus, rules, served, told
from support.stack import wait

pytestmark = pytest.mark.skipif(PROMETHEUS is None, reason=MISSING)

ROOT = Path(__file__).resolve().parents[2]
DASHBOARD = json.loads((ROOT / "deploy" / "grafana" / "dashboards" / "embedstream.json").read_text())
QUERIES = [
    pytest.param(target["expr"], id=f"{panel['title']} {target['refId']}")
    for panel in DASHBOARD["panels"]
    for target in panel.get("targets", ())
]
LONG_AGO = datetime.now(UTC) - timedelta(days=8)
BEHIND = Status(
    "topic", "table", job="RUNNING", messages=9, lag=3, partitions=[Partition(0, 5, 8, 3)], oldest_unread_seconds=900.0,
    eta_seconds=2.0, rate=1.5, rows=4, deleted=1, dead_letters=3, late=6, outcomes={"stored": 5},
    latency_ms={"p50": 20, "p99": 900}, since_checkpoint_seconds=300.0, failed_checkpoints=2,
    index=Index("invalid", percent=41.5), health=Health("degraded", ["so"]),
)  # fmt: skip
REPORT = Report("topic", "table", 9, 9, Outcomes(9), (), 0, 0, 0, 0, {"stale": 2}, ())
KEY = "reader"


def ill_console():
    """One pipeline is behind and wrong in all ways; the other is gone, and nobody has looked at it for long."""
    answer = Answer((), "exact", complete=False, as_of=None)
    app = console(BEHIND, answer=answer, names=("behind", "gone"), console_read_key=SecretStr(KEY))
    parts = app.extensions["parts"]
    parts.tasks._tasks["audit behind"] = Task("audit behind", LONG_AGO, "done", result=REPORT, ended=LONG_AGO)
    gone = parts.pipelines["gone"].watcher
    gone._observer.readings = [ConfigError("all is away")]
    gone._reading = gone.look()._replace(at=LONG_AGO)
    return app


def service():
    """Counts something each time that it is asked."""
    metrics = Metrics(lambda: 3)

    def tell():
        metrics.count_request("/embed", 200, None)
        metrics.count_texts(Embedded(np.zeros((1, 2), np.float32), (3,), (0,)), 256)
        metrics.count_batch(BatchFacts(3, 4, 0.002, 0.01))
        return metrics.render()

    return tell


def flink():
    """The job's metrics as it registers them, and those of Flink's own that the reference names; all of them rise."""
    counts = Counter()
    group = SimpleNamespace(
        counter=lambda name: counts.setdefault(name, 0), gauge=lambda name, _: counts.setdefault(name, 0)
    )
    JobMetrics(group, Patience())
    reference = (ROOT / "docs" / "reference" / "metrics.md").read_text()
    names = {f"flink_taskmanager_job_task_operator_{name}" for name in counts}
    names |= set(re.findall(r"`(flink_(?:jobmanager|taskmanager)_\w+)`", reference))
    asked = itertools.count(1)

    def tell():
        value = next(asked)
        return "".join(f'{name}{{job_name="embedstream"}} {value}\n' for name in sorted(names)).encode()

    return tell


@pytest.fixture(scope="module")
def asked(tmp_path_factory):
    app = ill_console()
    with ExitStack() as stack:
        addresses = {
            "embedstream": stack.enter_context(served(app)),
            "embedstream-service": stack.enter_context(told(service())),
            "embedstream-flink": stack.enter_context(told(flink())),
        }
        directory = tmp_path_factory.mktemp("prometheus")
        found = stack.enter_context(prometheus(directory, addresses, {"embedstream": KEY}))
        wait(lambda: found.values("embedstream_search_incomplete_total"), 20, "a scrape of the console")
        headers = {"Authorization": f"Bearer {KEY}"}
        for mode in ("semantic", "keyword", "hybrid"):
            app.test_client().post("/v1/search", json={"query": "x", "mode": mode}, headers=headers)
        wait(lambda: found.values("embedstream_search_seconds_count"), 20, "the searches")
        app.test_client().post("/v1/search", json={"query": "x", "mode": "hybrid"}, headers=headers)
        behind = app.extensions["parts"].pipelines["behind"].watcher
        behind._observer.readings = [replace(BEHIND, dead_letters=5)]
        behind.look()
        wait(lambda: found.has_scraped(len(addresses)), 30, f"scrapes of all: {found.told()}")
        wait(lambda: found.values("delta(embedstream_dead_letters[5m]) > 0"), 20, "the second look")
        wait(lambda: found.values("rate(embedstream_search_seconds_count[1m]) > 0"), 20, "a search more")
        yield found


@pytest.mark.parametrize("query", QUERIES)
def test_every_panel_shows_something(asked, query):
    values = asked.values(query.replace("$pipeline", ".*").replace("$__rate_interval", "1m"))
    assert values
    assert any(map(math.isfinite, values))


@pytest.mark.parametrize("name", rules())
def test_every_alert_can_be_raised(asked, name):
    """The one about a console that is gone asks whether there is a series at all."""
    expression = re.sub(r"^absent\((.*)\)$", r"\1", rules()[name]["expr"])
    assert asked.values(expression)


def test_who_may_choose_a_pipeline_is_told_which_there_are(asked):
    [variable] = [each for each in DASHBOARD["templating"]["list"] if each["name"] == "pipeline"]
    name, label = re.fullmatch(r"label_values\((\w+), (\w+)\)", variable["query"]).groups()
    assert len(asked.values(f"count by ({label}) ({name})")) == 2


def test_prometheus_evaluates_the_rules(asked):
    wait(lambda: asked.values('ALERTS{alertstate="pending"}'), 10, "alerts that wait")
    assert asked.values('ALERTS{alertname="EmbedstreamAuditUnequal", alertstate="firing", pipeline="behind"}')
