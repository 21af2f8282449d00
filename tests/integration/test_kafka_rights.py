"""A Kafka user with few rights on a broker with a policy: what submit and doctor make of it."""

import uuid

import pytest
from confluent_kafka.admin import AclOperation, AdminClient, NewTopic, ResourcePatternType, ResourceType

from embedstream import kafka
from embedstream.doctor import broker, log
from embedstream.doctor.check import run
from embedstream.doctor.world import World
from embedstream.errors import ConfigError
from embedstream.kafka import Outgoing
from embedstream.settings import load_settings
from support.secure_kafka import add_scram_user, allow

MIB = 1024 * 1024


@pytest.fixture
def settings(secure):
    """Of a user of the test's own who may do nothing yet, with topics and a group of its own."""
    name = uuid.uuid4().hex[:8]
    add_scram_user(secure.open, name, "secret")
    return load_settings(
        kafka_bootstrap_servers=secure.addresses["PLAIN"], kafka_security_protocol="SASL_PLAINTEXT",
        kafka_sasl_mechanism="SCRAM-SHA-512", kafka_sasl_username=name, kafka_sasl_password="secret",
        kafka_input_topic=f"{name}-in", kafka_dead_letter_topic=f"{name}-dead", kafka_group_id=f"{name}-group",
    )  # fmt: skip


@pytest.fixture
def root(secure):
    return AdminClient({"bootstrap.servers": secure.open})


def found(settings):
    with World(settings) as world:
        return {finding.check.removeprefix("broker."): finding for finding in run((*broker.CHECKS, *log.CHECKS), world)}


def states(findings):
    return {name: finding.state for name, finding in findings.items()}


def of_the_job(root, settings):
    """The rights that the documentation names for a job whose topics exist."""
    allow(root, settings.kafka_sasl_username, ResourceType.TOPIC, settings.kafka_input_topic, AclOperation.READ)
    allow(root, settings.kafka_sasl_username, ResourceType.TOPIC, settings.kafka_dead_letter_topic, AclOperation.WRITE)
    allow(root, settings.kafka_sasl_username, ResourceType.GROUP, settings.kafka_group_id, AclOperation.READ)


def make_topics(root, settings):
    topics = [NewTopic(settings.kafka_input_topic, 2, 1), NewTopic(settings.kafka_dead_letter_topic, 1, 1)]
    for future in root.create_topics(topics).values():
        future.result(10)


def test_who_may_do_nothing_is_told_so_before_submit_is_refused(settings):
    findings = found(settings)
    assert (findings["input_topic"].state, findings["dead_letter_topic"].state) == ("FAIL", "FAIL")
    assert "allow the operations Create and Describe" in findings["input_topic"].remedy
    assert "READ on group" in findings["rights"].fact
    with pytest.raises(ConfigError, match=r"cannot be created.*allow the operation Create"):
        kafka.ensure_topics(settings)


def test_a_topic_that_may_not_be_seen(root, settings):
    make_topics(root, settings)
    allow(root, settings.kafka_sasl_username, ResourceType.TOPIC, settings.kafka_input_topic, AclOperation.CREATE)
    findings = found(settings)
    assert findings["input_topic"].state == "FAIL"
    assert "may not see it" in findings["input_topic"].fact


def test_rights_by_prefix_are_enough_to_create_topics(root, settings):
    prefix = settings.kafka_sasl_username
    for kind in (ResourceType.TOPIC, ResourceType.GROUP):
        allow(root, settings.kafka_sasl_username, kind, prefix, AclOperation.ALL, pattern=ResourcePatternType.PREFIXED)
    before = found(settings)
    assert before["input_topic"].state == "ok"
    assert before["dead_letter_topic"].state == "warn"  # the policy
    kafka.ensure_topics(settings)
    after = found(settings)
    assert (after["input_topic"].state, after["rights"].state) == ("ok", "ok")


def test_the_rights_of_a_job_without_describe_configs(root, settings):
    make_topics(root, settings)
    of_the_job(root, settings)
    findings = found(settings)
    hidden = {"retention", "timestamps", "dead_letter_size", "dead_letter_cleanup"}
    assert {name for name, state in states(findings).items() if state == "warn"} == {*hidden, "rights"}
    assert all("does not tell" in findings[name].fact for name in hidden)
    assert "WRITE on topic" in findings["rights"].fact
    assert "FAIL" not in states(findings).values()
    assert kafka.positions(settings)[0].committed is None


def test_configurations_that_may_be_read_are_judged(root, settings):
    make_topics(root, settings)
    of_the_job(root, settings)
    for topic in (settings.kafka_input_topic, settings.kafka_dead_letter_topic):
        allow(root, settings.kafka_sasl_username, ResourceType.TOPIC, topic, AclOperation.DESCRIBE_CONFIGS)
    findings = found(settings)
    assert findings["timestamps"].state == findings["retention"].state == "ok"
    assert findings["dead_letter_size"].state == "FAIL"


@pytest.mark.parametrize("lacking", ["READ on topic", "WRITE on topic", "READ on group"])
def test_each_right_that_the_job_lacks_is_named(root, settings, lacking):
    make_topics(root, settings)
    rights = {
        "READ on topic": (ResourceType.TOPIC, settings.kafka_input_topic, AclOperation.READ, AclOperation.DESCRIBE),
        "WRITE on topic": (
            ResourceType.TOPIC, settings.kafka_dead_letter_topic, AclOperation.WRITE, AclOperation.DESCRIBE,
        ),
        "READ on group": (ResourceType.GROUP, settings.kafka_group_id, AclOperation.READ, AclOperation.DESCRIBE),
    }  # fmt: skip
    for name, (kind, resource, wanted, lesser) in rights.items():
        allow(root, settings.kafka_sasl_username, kind, resource, lesser if name == lacking else wanted)
    finding = found(settings)["rights"]
    assert finding.state == "FAIL"
    assert lacking in finding.fact
    assert finding.fact.count(" on ") == 1


def test_a_policy_gets_the_most_that_it_allows(root, settings, secure):
    told = []
    open_settings = settings.model_copy(
        update={"kafka_bootstrap_servers": secure.open, "kafka_security_protocol": "PLAINTEXT"}
    )
    assert kafka.ensure_topics(open_settings, told.append) == [
        settings.kafka_input_topic, settings.kafka_dead_letter_topic,
    ]  # fmt: skip
    config = kafka.topic_config(root, settings.kafka_dead_letter_topic)
    assert config["max.message.bytes"] == str(8 * MIB)
    assert config["retention.ms"] == str(90 * 24 * 60 * 60 * 1000)
    (line,) = told
    assert "max.message.bytes is 8388608 instead of 68157440" in line
    assert "retention.ms is 7776000000 instead of -1" in line
    assert "Invalid config value" in line
    assert kafka.produce(open_settings, settings.kafka_dead_letter_topic, [Outgoing(b"x")]) == 1


def test_what_a_policy_refuses_whatever_is_asked_is_one_clear_error(settings, secure, monkeypatch):
    monkeypatch.setattr(kafka.topics, "_OF_THE_INPUT", {"cleanup.policy": ("no-such",)})
    monkeypatch.setattr(kafka.topics, "_FOLLOWS", {"cleanup.policy": "x", **kafka.topics._FOLLOWS})
    told = []
    open_settings = settings.model_copy(
        update={"kafka_bootstrap_servers": secure.open, "kafka_security_protocol": "PLAINTEXT"}
    )
    kafka.ensure_topics(open_settings, told.append)
    assert "cleanup.policy is the default of the broker instead of no-such" in told[0]
    bad = open_settings.model_copy(update={"kafka_input_topic": "not a name"})
    with pytest.raises(ConfigError, match="topic not a name cannot be created"):
        kafka.ensure_topics(bad, told.append)
