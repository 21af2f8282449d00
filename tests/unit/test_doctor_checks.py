from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import httpx
import pytest
from confluent_kafka import KafkaError, KafkaException

from embedstream.doctor import clock
from embedstream.doctor.check import Check, Finding, fail, ok, run, span, warn
from embedstream.doctor.world import Heard
from embedstream.errors import ConfigError

NOON = datetime(2026, 1, 1, 12, 0, 0, 500_000, UTC)


def raising(error):
    def look(_):
        raise error

    return look


def test_a_check_without_what_it_needs_is_skipped():
    checks = [
        Check("a", lambda _: fail("broken", "mend it")), Check("b", lambda _: warn("odd", "look"), ("c",)),
        Check("d", lambda _: ok("fine"), ("a", "b")), Check("e", lambda _: ok("fine"), ("d",)),
    ]  # fmt: skip
    findings = run([Check("c", lambda _: ok("fine")), *checks], None)
    assert [finding.state for finding in findings] == ["ok", "FAIL", "warn", "skipped", "skipped"]
    assert findings[3].fact == "needs a"
    assert str(findings[1]).split() == ["FAIL", "a", "broken:", "mend", "it"]


@pytest.mark.parametrize(
    "error", [ConfigError("no way"), KafkaException(KafkaError(KafkaError.TOPIC_AUTHORIZATION_FAILED))]
)
def test_an_error_is_a_finding(error):
    (finding,) = run([Check("a", raising(error))], None)
    assert isinstance(finding, Finding)
    assert finding.state == "FAIL"


@pytest.mark.parametrize(
    ("behind", "state"), [(0, "ok"), (-1.5, "ok"), (2.5, "ok"), (4, "warn"), (-4, "warn"), (70, "FAIL"), (-70, "FAIL")]
)
def test_the_clock_of_the_service(behind, state):
    said = (NOON - timedelta(seconds=behind)).strftime("%a, %d %b %Y %H:%M:%S GMT")
    world = SimpleNamespace(health=Heard(httpx.Response(200, headers={"date": said}), NOON))
    assert clock._service(world).state == state


def test_durations_for_people():
    assert [span(seconds) for seconds in (3, 150, 86_400, 30 * 86_400)] == [
        "3 s",
        "2 minutes",
        "24 hours",
        "30 days",
    ]
