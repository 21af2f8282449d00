"""What deploy/prometheus and deploy/grafana promise; tests/integration asks a real Prometheus."""

import json
import re
import subprocess
from pathlib import Path

import pytest
import yaml

import dashboards
from embedstream.console.metrics import METRICS
from support.prometheus import MISSING, PROMTOOL, SHIPPED, rules

ROOT = Path(__file__).resolve().parents[2]
GUIDE = (ROOT / "docs" / "howto" / "dashboards.md").read_text()
SEARCHES = {"search_seconds_bucket", "search_seconds_count", "search_incomplete_total"}


def promtool(*arguments):
    done = subprocess.run([PROMTOOL, *arguments], cwd=SHIPPED, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.skipif(PROMTOOL is None, reason=MISSING)
@pytest.mark.parametrize(
    "arguments",
    [
        ("check", "rules", "--lint-fatal", "rules.yml"),
        # The files of keys are the containers'.
        ("check", "config", "--syntax-only", "--lint-fatal", "prometheus.yml"),
        ("test", "rules", "rules_test.yml"),
    ],
    ids=" ".join,
)
def test_promtool_finds_nothing_wrong(arguments):
    promtool(*arguments)


def test_every_alert_has_a_test_in_which_it_is_raised():
    tests = yaml.safe_load((SHIPPED / "rules_test.yml").read_text())["tests"]
    raised = {case["alertname"] for test in tests for case in test.get("alert_rule_test", ()) if case["exp_alerts"]}
    assert raised == set(rules())


@pytest.mark.parametrize("name", rules())
def test_every_alert_says_what_to_do(name):
    rule = rules()[name]
    assert rule["labels"]["severity"] in ("page", "ticket")
    assert set(rule["annotations"]) == {"summary", "action"}
    assert re.search(rf"^\| `{name}` \| {rule['labels']['severity']} \|", GUIDE, flags=re.MULTILINE)


def test_the_dashboard_is_what_its_generator_writes():
    assert dashboards.PATH.read_text() == dashboards.dashboard(), "run `python tools/dashboards.py`"


def test_every_dashboard_is_one_that_the_generator_writes():
    assert list(dashboards.PATH.parent.iterdir()) == [dashboards.PATH]


def queries():
    panels = json.loads(dashboards.PATH.read_text())["panels"]
    return [target["expr"] for panel in panels for target in panel.get("targets", ())]


@pytest.mark.parametrize("query", [*queries(), *(rule["expr"] for rule in rules().values())])
def test_only_metrics_of_the_console_that_there_are_are_asked_for(query):
    counters = {metric.name for metric in METRICS if metric.family().type == "counter"}
    ours = {f"{name}_total" if name in counters else name for name in (metric.name for metric in METRICS)} | SEARCHES
    assert set(re.findall(r"\bembedstream_(\w+)", query)) <= ours


def test_every_metric_of_the_console_is_shown():
    names = {metric.name for metric in METRICS} - {"observed_timestamp_seconds", "failed_checkpoints"}
    assert {name for name in names if f"embedstream_{name}" not in " ".join(queries())} == set()
