"""The whole job on a broker that asks for a password with every awkward character, and that limits dead letters."""

import json
import os
import random
import shutil
from contextlib import contextmanager
from urllib.parse import urlsplit

import httpx
import pytest
from confluent_kafka.admin import (
    AclOperation,
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewTopic,
    ResourceType,
)
from pydantic import SecretStr

from embedstream import flink, kafka, store
from embedstream.doctor.broker import CHECKS
from embedstream.doctor.check import run
from embedstream.doctor.world import World
from embedstream.jars import cache_directory
from embedstream.kafka import Outgoing
from embedstream.local.flink import FlinkCluster, JobManager, TaskManager
from embedstream.local.part import running
from embedstream.local.ports import free_port
from embedstream.settings import load_settings
from embedstream.submit import submit
from support.postgres import postgres_server
from support.secure_kafka import add_scram_user, allow, secure_broker
from support.service import running_service
from support.stack import wait

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.timeout(600),
    pytest.mark.skipif(not shutil.which("openssl"), reason="openssl makes the certificates"),
]

PASSWORD = "s3\"c\\r e't ${env:HOME};\n密"


USER = 'u"s\\r'
MIB = 1024 * 1024


@pytest.fixture
def world(tmp_path):
    """Settings for a service, a database and a secured broker, and the same as the broker's owner."""
    (tmp_path / "postgres").mkdir()
    (tmp_path / "broker").mkdir()
    with (
        secure_broker(tmp_path / "broker") as secure,
        postgres_server(tmp_path / "postgres") as postgres,
        postgres.fresh_database() as database,
        running_service(tmp_path, model="fake:64") as service,
    ):
        add_scram_user(secure.open, USER, PASSWORD)
        settings = load_settings(
            kafka_bootstrap_servers=secure.addresses["PLAIN"], kafka_security_protocol="SASL_PLAINTEXT",
            kafka_sasl_mechanism="SCRAM-SHA-512", kafka_sasl_username=USER, kafka_sasl_password=PASSWORD,
            pgvector_host=postgres.host, pgvector_port=postgres.port, pgvector_db=database,
            embedding_service_url=service.url, flink_rest_url=f"http://127.0.0.1:{free_port()}",
            flink_checkpoint_interval_ms=1000, flink_parallelism=1,
        )  # fmt: skip
        owner = {"kafka_bootstrap_servers": secure.open, "kafka_security_protocol": "PLAINTEXT"}
        yield settings, settings.model_copy(update=owner)


def prepare_topics(settings, owner):
    """An input topic with larger messages than dead letters may have, and the rights that the documentation names."""
    root = AdminClient(kafka.client_config(owner))
    source, letters = settings.kafka_input_topic, settings.kafka_dead_letter_topic
    root.create_topics([NewTopic(source, 1, 1)])[source].result(10)
    allow(root, USER, ResourceType.TOPIC, source, AclOperation.READ)
    allow(root, USER, ResourceType.TOPIC, letters, AclOperation.WRITE, AclOperation.CREATE)
    allow(root, USER, ResourceType.GROUP, settings.kafka_group_id, AclOperation.READ)


@contextmanager
def flink_cluster(settings, directory, monkeypatch):
    """Started as a user starts hers: with the variables of `embedstream flink-env`."""
    exports = kafka.cluster_environment(settings)
    rest = urlsplit(settings.flink_rest_url)
    cluster = FlinkCluster(
        directory=directory / "flink", rest_port=rest.port, rpc_port=free_port(avoid=frozenset({rest.port})), slots=1,
        cache=cache_directory(settings), logs=directory / "logs", base_env={**os.environ, **exports},
    )  # fmt: skip
    manager, worker = (
        JobManager(cluster, directory / "logs" / "jm.log"),
        TaskManager(cluster, directory / "logs" / "tm.log"),
    )
    for name, value in {**cluster.env, **exports}.items():
        monkeypatch.setenv(name, value)
    with running(manager), running(worker):
        yield


def test_a_job_with_the_few_rights_that_are_documented(world, tmp_path, monkeypatch):
    settings, owner = world
    prepare_topics(settings, owner)
    said = []
    with flink_cluster(settings, tmp_path, monkeypatch):
        whole = SecretStr(kafka.cluster_environment(settings)["KAFKA_SASL_JAAS_CONFIG"])
        job = submit(settings.model_copy(update={"kafka_sasl_jaas_config": whole}), said.append)
        assert any("max.message.bytes is 8388608 instead of" in line for line in said)
        records = [
            Outgoing(b'{"id": "a", "text": "hello"}'),
            Outgoing(b"\xff"),
            Outgoing(b'{"id": "b", "text": "you"}'),
        ]
        kafka.produce(owner, settings.kafka_input_topic, records)
        wait(lambda: ids(settings) == ["a", "b"], 60, "the rows")
        wait(lambda: kafka.count(owner, settings.kafka_dead_letter_topic) == 1, 30, "the dead letter")
        wait(lambda: kafka.positions(settings)[0].lag == 0, 30, "the group's offsets")
        shown = [httpx.get(f"{settings.flink_rest_url}/jobs/{job.id}{path}").text for path in ("", "/config", "/plan")]
        assert not any(secret in text for text in shown for secret in (PASSWORD, json.dumps(PASSWORD)[1:-1]))
        too_large_a_dead_letter(settings, owner)
    assert_not_in_logs(tmp_path / "logs")


def too_large_a_dead_letter(settings, owner):
    """The job says why it restarts and loses nothing: when the topic takes more, it goes on by itself."""
    root = AdminClient(kafka.client_config(owner))
    set_largest(root, settings.kafka_input_topic, 12 * MIB)
    large = Outgoing(random.randbytes(9 * MIB))
    kafka.produce(owner, settings.kafka_input_topic, [large, Outgoing(b'{"id": "c", "text": "after"}')])
    (job,) = flink.Cluster(settings).live_jobs(settings.flink_job_name)
    exceptions = f"{settings.flink_rest_url}/jobs/{job.id}/exceptions"
    wait(lambda: "RecordTooLargeException" in httpx.get(exceptions).text, 90, "the reason to be told")
    with World(owner) as world:
        (size,) = [finding for finding in run(CHECKS, world) if finding.check == "broker.dead_letter_size"]
    assert size.state == "FAIL"
    set_largest(root, settings.kafka_dead_letter_topic, 20 * MIB)
    wait(lambda: kafka.count(owner, settings.kafka_dead_letter_topic) >= 2, 120, "the large dead letter")
    letters = [letter.value() for letter in kafka.read(owner, settings.kafka_dead_letter_topic)]
    assert large.value in letters
    wait(lambda: ids(settings) == ["a", "b", "c"], 60, "the row behind it")


def set_largest(root, topic, size):
    entry = ConfigEntry("max.message.bytes", str(size), incremental_operation=AlterConfigOpType.SET)
    resource = ConfigResource(ConfigResource.Type.TOPIC, topic, incremental_configs=[entry])
    root.incremental_alter_configs([resource])[resource].result(10)


def ids(settings):
    with store.connect(settings) as connection:
        return [row[0] for row in connection.execute("SELECT id FROM text_message_embeddings ORDER BY id")]


def assert_not_in_logs(directory):
    for log in directory.rglob("*.log"):
        assert 's3"c' not in log.read_text(errors="replace"), log
