from concurrent.futures import Future
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import httpx
import pytest
from confluent_kafka import KafkaError, KafkaException

from embedstream.doctor import broker, clock, log, service
from embedstream.doctor.check import Check, Finding, fail, ok, run, span, warn
from embedstream.doctor.world import Heard
from embedstream.errors import ConfigError
from embedstream.kafka import Log
from embedstream.settings import load_settings
from embedstream.standing import Standing

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


def hiding(**configs):
    """A broker that shows topics and only these of their configurations."""
    settings = load_settings(kafka_input_topic="in", kafka_dead_letter_topic="dead")
    shown = {"input_config": {}, "dead_letter_config": {}, **configs}
    standing = Standing("in", "embedstream", {}, Log([], []), None)
    return SimpleNamespace(settings=settings, partitions={"in": 2, "dead": 1}, standing=standing, **shown)


@pytest.mark.parametrize(
    "look", [log._retention, log._timestamps, broker._dead_letter_size, broker._dead_letter_cleanup]
)
def test_what_a_broker_hides_is_not_known_and_never_good(look):
    verdict = look(hiding())
    assert verdict.state == "warn"
    assert "does not tell" in verdict.fact
    assert "DescribeConfigs" in verdict.remedy


def test_a_broker_that_shows_one_topic_s_configurations():
    small, large = {"max.message.bytes": "1048588"}, {"max.message.bytes": str(2**26)}
    assert broker._dead_letter_size(hiding(dead_letter_config=small)).state == "warn"
    assert broker._dead_letter_size(hiding(dead_letter_config=large)).state == "ok"
    assert broker._dead_letter_size(hiding(input_config=large, dead_letter_config=small)).state == "FAIL"
    assert broker._dead_letter_cleanup(hiding(dead_letter_config={"cleanup.policy": "delete"})).state == "warn"


def answering(result):
    future = Future()
    (future.set_exception if isinstance(result, Exception) else future.set_result)(result)
    return future


@pytest.mark.parametrize(
    "answer",
    [
        SimpleNamespace(authorized_operations=None),  # what librdkafka makes of a broker that does not tell
        KafkaException(KafkaError(KafkaError._UNSUPPORTED_FEATURE)),
        KafkaException(KafkaError(KafkaError.UNSUPPORTED_VERSION)),
    ],
)
def test_rights_that_a_broker_does_not_tell_are_not_known(answer):
    world = hiding()
    world.admin = SimpleNamespace(
        describe_topics=lambda *_, **__: {"in": answering(answer), "dead": answering(answer)},
        describe_consumer_groups=lambda groups, **_: {groups[0]: answering(answer)},
    )
    verdict = broker._rights(world)
    assert verdict.state == "skipped"
    assert "does not tell the rights on topic in, group embedstream, topic dead" in verdict.fact


def test_a_text_that_fits_into_no_request_is_refused():
    world = SimpleNamespace(settings=load_settings(max_text_bytes=2000, embedding_max_request_bytes=2000))
    verdict = service._size(world)
    assert (verdict.state, "EMBEDDING_MAX_REQUEST_BYTES" in verdict.fact) == ("FAIL", True)


@pytest.mark.parametrize(("facts", "state"), [({}, "ok"), ({"warnings": []}, "ok"), ({"warnings": ["set X"]}, "warn")])
def test_what_the_service_warns_of_is_told(facts, state):
    world = SimpleNamespace(health=Heard(httpx.Response(200, json=facts), NOON))
    verdict = service._model(world)
    assert (verdict.state, "set X" in verdict.fact) == (state, state == "warn")
