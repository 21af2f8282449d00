import os
import subprocess
from concurrent.futures import Future
from types import SimpleNamespace

import pytest
from confluent_kafka import KafkaError, KafkaException, TopicPartition
from typer.testing import CliRunner

from embedstream import kafka
from embedstream.cli import app
from embedstream.errors import ConfigError
from embedstream.job import tables
from embedstream.kafka import log
from embedstream.limits import Letter
from embedstream.settings import load_settings
from embedstream.submit import submit

SECRETS = ("u-s-e-r", "s3cret", "cl1ent", "k3y")
OAUTH = {
    "kafka_sasl_mechanism": "OAUTHBEARER", "kafka_sasl_oauthbearer_token_endpoint_url": "https://idp.example/token",
    "kafka_sasl_oauthbearer_client_id": "cl1ent", "kafka_sasl_oauthbearer_client_secret": "s3cret",
}  # fmt: skip
USER = {"kafka_sasl_username": "u-s-e-r", "kafka_sasl_password": "s3cret"}


def settings(protocol="SASL_SSL", **more):
    return load_settings(kafka_security_protocol=protocol, **more)


@pytest.fixture
def files(tmp_path):
    for name in ("client.crt", "client.key"):
        (tmp_path / name).write_text("-----BEGIN PRIVATE KEY-----k3y")
    return {
        "kafka_ssl_certificate_location": tmp_path / "client.crt", "kafka_ssl_key_location": tmp_path / "client.key",
        "kafka_ssl_key_password": "k3y", "kafka_ssl_ca_location": "/ca.pem",
    }  # fmt: skip


@pytest.mark.parametrize(
    "login",
    [USER, OAUTH, {**USER, "kafka_sasl_jaas_config": "x s3cret;"}, {**USER, "kafka_sasl_mechanism": "SCRAM-SHA-256"}],
)
def test_the_job_holds_references_only(login, files):
    known = settings(**login, **files)
    for statement in (tables.source(known), tables.dead_letters(known, Letter.of(known.max_text_bytes))):
        assert not [secret for secret in SECRETS if secret in statement]
        assert "'properties.config.providers' = 'env,directory'" in statement
        assert (
            f"'properties.ssl.keystore.key' = '${{directory:{files['kafka_ssl_key_location'].parent}:client.key}}'"
            in statement
        )


def test_no_provider_without_a_reference():
    assert kafka.java_config(load_settings()) == {}
    assert kafka.java_config(settings("SSL")) == {"security.protocol": "SSL"}


def test_what_flink_env_prints_is_read_whole_by_a_shell(monkeypatch):
    password = "it's $HOME `date` \"\\ é"
    for name, value in {**USER, "kafka_sasl_password": password, "kafka_security_protocol": "SASL_SSL"}.items():
        monkeypatch.setenv(name.upper(), value)
    exports = CliRunner().invoke(app, ["flink-env"]).output
    shown = f'{exports}\nprintf "%s" "$KAFKA_SASL_PASSWORD|$KAFKA_SASL_JAAS_CONFIG"'
    found = subprocess.run(["sh", "-c", shown], capture_output=True, text=True, check=True).stdout
    assert found.startswith(f"{password}|")
    assert found.endswith(
        r'PlainLoginModule required username="u-s-e-r" password="it' + "'s $HOME `date` " + r'\"\\ é";'
    )


def test_flink_env_allows_the_one_address_of_the_tokens():
    environment = kafka.cluster_environment(settings(**OAUTH))
    assert environment["JAVA_TOOL_OPTIONS"].endswith(".sasl.oauthbearer.allowed.urls=https://idp.example/token")
    assert environment["KAFKA_SASL_OAUTHBEARER_CLIENT_SECRET"] == "s3cret"
    assert "KAFKA_SASL_JAAS_CONFIG" not in environment


def test_options_of_java_that_there_are_stay(monkeypatch):
    for name, value in {**OAUTH, "kafka_security_protocol": "SASL_SSL"}.items():
        monkeypatch.setenv(name.upper(), value)
    shown = f"{CliRunner().invoke(app, ['flink-env']).output}\necho $JAVA_TOOL_OPTIONS"
    environment = {"PATH": os.defpath, "JAVA_TOOL_OPTIONS": "-Xmine"}
    found = subprocess.run(["sh", "-euc", shown], env=environment, capture_output=True, text=True, check=True).stdout
    assert found.split()[0] == "-Xmine"
    assert found.split()[1].endswith("allowed.urls=https://idp.example/token")


def test_extensions_are_options_of_the_login():
    config = kafka.java_config(settings(**OAUTH, kafka_sasl_oauthbearer_extensions="logicalCluster=lkc-1,poolId=p=1"))
    assert 'extension_logicalCluster="lkc-1" extension_poolId="p=1";' in config["sasl.jaas.config"]
    with pytest.raises(ConfigError, match="KAFKA_SASL_OAUTHBEARER_EXTENSIONS"):
        settings(**OAUTH, kafka_sasl_oauthbearer_extensions='a="b"')


@pytest.mark.parametrize(
    "url", ["idp.example", "https://user@idp/token", "https://idp/a,https://idp/b", "https://idp/a b"]
)
def test_an_address_of_tokens_is_one_address(url):
    with pytest.raises(ConfigError, match="KAFKA_SASL_OAUTHBEARER_TOKEN_ENDPOINT_URL"):
        load_settings(kafka_sasl_oauthbearer_token_endpoint_url=url)


@pytest.mark.parametrize(
    ("given", "missing"),
    [
        ({}, "KAFKA_SASL_USERNAME, KAFKA_SASL_PASSWORD: set them"),
        ({"kafka_sasl_username": "u"}, "lacks KAFKA_SASL_PASSWORD: set it"),
        ({**OAUTH, "kafka_sasl_oauthbearer_client_secret": None}, "lacks KAFKA_SASL_OAUTHBEARER_CLIENT_SECRET"),
        ({"protocol": "SSL", "kafka_ssl_key_location": "/k"}, "lacks KAFKA_SSL_CERTIFICATE_LOCATION"),
    ],
)
def test_what_a_login_lacks_is_named(given, missing):
    known = settings(**given)
    for config in (kafka.client_config, kafka.java_config):
        with pytest.raises(ConfigError, match=missing):
            config(known)


def test_submit_refuses_what_the_job_could_not_log_in_with():
    class NoJob:
        def __init__(self, settings):
            pass

        def job(self, name):
            return None

    known = settings(kafka_sasl_username="u", kafka_sasl_password='pa"ss')
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("embedstream.flink.Cluster", NoJob)
        patch.setattr("embedstream.doctor.check_submission", lambda settings: None)
        with pytest.raises(ConfigError, match="flink-env"):
            submit(known, print)


def test_a_client_that_keeps_to_a_leader_of_before_is_not_asked_again(monkeypatch):
    """As librdkafka 2.16 does after an election: it asks with the old epoch for minutes."""
    made = []

    class Admin:
        def __init__(self, config):
            made.append(self)

        def list_offsets(self, wanted, **options):
            futures = {place: Future() for place in wanted}
            for future in futures.values():
                if self is made[0]:
                    future.set_exception(KafkaException(KafkaError(KafkaError.FENCED_LEADER_EPOCH)))
                else:
                    future.set_result(SimpleNamespace(offset=7))
            return futures

    monkeypatch.setattr(log, "AdminClient", Admin)
    assert log._ends(load_settings(), [TopicPartition("t", 0)]) == {0: (7, 7, 7)}
    assert len(made) == 2
