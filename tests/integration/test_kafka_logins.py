"""Every login by both clients: librdkafka with the tools' configuration, and the connector's own Java client with the
options that the job renders and the variables that its cluster has.
"""

import re

import pytest
from confluent_kafka.admin import AdminClient
from py4j.protocol import Py4JJavaError
from pydantic import SecretStr

from embedstream import kafka
from embedstream.errors import ConfigError
from embedstream.settings import load_settings
from support.certificates import KEY_PASSWORD
from support.secure_kafka import CLIENT, PASSWORDS, SECRET, SHADED, WITH_NEWLINE, add_scram_user, connector_jvm


def tools_log_in(settings):
    topics = kafka.client.asked(settings, lambda: AdminClient(kafka.client_config(settings)).list_topics(timeout=10))
    return bool(topics.brokers)


def java_logs_in(jvm, settings, number=None):
    """Describes the cluster by the shaded client, configured as Flink's connector does it."""
    properties = jvm.java.util.Properties()
    options = {"bootstrap.servers": settings.kafka_bootstrap_servers, "request.timeout.ms": "8000",
               "default.api.timeout.ms": "8000", **kafka.java_config(settings)}  # fmt: skip
    for name, value in options.items():
        properties.setProperty(name, value if number is None else re.sub(r"(\$\{env:\w+)", rf"\1_{number}", value))
    try:
        admin = getattr(jvm, SHADED).clients.admin.Admin.create(properties)
        try:
            return bool(admin.describeCluster().clusterId().get())
        finally:
            admin.close()
    except Py4JJavaError as exc:
        raise AssertionError(" <- ".join(causes(exc.java_exception))) from None


def causes(exception):
    while exception is not None:
        yield exception.toString()
        exception = exception.getCause()


def sasl(secure, mechanism, user, password):
    return load_settings(
        kafka_bootstrap_servers=secure.addresses["PLAIN"], kafka_security_protocol="SASL_PLAINTEXT",
        kafka_sasl_mechanism=mechanism, kafka_sasl_username=user, kafka_sasl_password=password,
    )  # fmt: skip


def as_flink_env_says(settings, monkeypatch):
    """The settings, and this process's environment, after `eval "$(embedstream flink-env)"`."""
    for name, value in kafka.cluster_environment(settings).items():
        monkeypatch.setenv(name, value)
    return load_settings(**{name: getattr(settings, name) for name in settings.model_fields_set})


@pytest.mark.timeout(180)
def test_a_password_may_hold_any_character(secure, monkeypatch):
    """One JVM for all of them: the variables of each user have a number behind their names."""
    users = []
    for mechanism in ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"):
        for number, password in enumerate(PASSWORDS if mechanism == "PLAIN" else (*PASSWORDS, WITH_NEWLINE)):
            user = str(number) if mechanism == "PLAIN" else f'u"{number}\\ ,='
            if mechanism == "SCRAM-SHA-256":
                add_scram_user(secure.open, user, password)
            settings = sasl(secure, mechanism, user, password)
            exported = kafka.cluster_environment(settings)
            for name, value in exported.items():
                monkeypatch.setenv(f"{name}_{len(users)}", value)
            line = SecretStr(exported["KAFKA_SASL_JAAS_CONFIG"])
            users.append(settings.model_copy(update={"kafka_sasl_jaas_config": line}))
    with connector_jvm() as jvm:
        for number, settings in enumerate(users):
            assert tools_log_in(settings)
            assert java_logs_in(jvm, settings, number), settings.kafka_sasl_password.get_secret_value()


def test_a_wrong_password_is_refused(secure):
    settings = sasl(secure, "PLAIN", "0", "wrong")
    with pytest.raises(ConfigError, match="Invalid username or password"):
        tools_log_in(settings)


@pytest.mark.parametrize("password", ['pa"ss', "pa\\word1", "two\nlines", "one\rmore"])
def test_what_java_would_misread_is_refused_with_what_to_do(secure, password):
    for user, secret in ((password, "fine"), ("fine", password)):
        with pytest.raises(ConfigError, match="embedstream flink-env"):
            kafka.java_config(sasl(secure, "PLAIN", user, secret))


@pytest.mark.parametrize("text", [" lead", "\tlead"])
def test_what_librdkafka_would_cut_off_is_refused(secure, text):
    for user, password in ((text, "fine"), ("fine", text)):
        with pytest.raises(ConfigError, match="begins with white space"):
            kafka.client_config(sasl(secure, "PLAIN", user, password))


def tls(secure, key, **more):
    return load_settings(
        kafka_bootstrap_servers=secure.addresses["MTLS"], kafka_security_protocol="SSL",
        kafka_ssl_ca_location=secure.folder / "ca.pem", kafka_ssl_certificate_location=secure.folder / "client.crt",
        kafka_ssl_key_location=secure.folder / key, kafka_ssl_endpoint_identification="none", **more,
    )  # fmt: skip


@pytest.mark.parametrize(("key", "password"), [("client.key", None), ("client-encrypted.key", KEY_PASSWORD)])
def test_a_client_certificate_lets_both_in(secure, key, password, monkeypatch):
    settings = as_flink_env_says(tls(secure, key, kafka_ssl_key_password=password), monkeypatch)
    assert tools_log_in(settings)
    with connector_jvm() as jvm:
        assert java_logs_in(jvm, settings)
    assert not any("PRIVATE" in value or KEY_PASSWORD in value for value in kafka.java_config(settings).values())


def test_certificate_and_key_may_be_one_file(secure, monkeypatch):
    both = secure.folder / "both.pem"
    both.write_text("".join((secure.folder / name).read_text() for name in ("client.key", "client.crt")))
    settings = tls(secure, "both.pem").model_copy(update={"kafka_ssl_certificate_location": both})
    assert tools_log_in(settings)
    with connector_jvm() as jvm:
        assert java_logs_in(jvm, settings)


def test_a_broker_of_another_name_is_refused_by_both(secure, monkeypatch):
    monkeypatch.setattr(kafka.client, "TIMEOUT", 2.0)
    settings = tls(secure, "client.key").model_copy(update={"kafka_ssl_endpoint_identification": "https"})
    with pytest.raises(ConfigError):
        kafka.client.asked(settings, lambda: AdminClient(kafka.client_config(settings)).list_topics(timeout=2))
    with connector_jvm() as jvm, pytest.raises(AssertionError, match="SslAuthenticationException"):
        java_logs_in(jvm, settings)


def test_keys_that_java_does_not_read_are_refused_with_what_to_do(secure):
    with pytest.raises(ConfigError, match="openssl pkcs8 -topk8"):
        kafka.java_config(tls(secure, "client-old.key"))
    with pytest.raises(ConfigError, match="KAFKA_SSL_KEY_LOCATION cannot be read"):
        kafka.java_config(tls(secure, "no-such.key"))
    with pytest.raises(ConfigError, match="colon or a brace"):
        kafka.java_config(
            tls(secure, "client.key").model_copy(update={"kafka_ssl_certificate_location": secure.folder / "a:b"})
        )


def oauth(secure, **more):
    return load_settings(
        kafka_bootstrap_servers=secure.addresses["OAUTH"], kafka_security_protocol="SASL_PLAINTEXT",
        kafka_sasl_mechanism="OAUTHBEARER", kafka_sasl_oauthbearer_token_endpoint_url=secure.tokens,
        kafka_sasl_oauthbearer_client_id=CLIENT, kafka_sasl_oauthbearer_client_secret=SECRET,
        **{"kafka_sasl_oauthbearer_scope": "read write", **more},
    )  # fmt: skip


@pytest.mark.parametrize("extensions", [None, "logicalCluster=lkc-1,identityPoolId=pool-x"])
def test_a_token_lets_both_in(secure, monkeypatch, extensions):
    settings = as_flink_env_says(oauth(secure, kafka_sasl_oauthbearer_extensions=extensions), monkeypatch)
    assert tools_log_in(settings)
    with connector_jvm() as jvm:
        assert java_logs_in(jvm, settings)


def test_java_asks_no_address_that_its_jvm_was_not_told(secure, monkeypatch):
    settings = as_flink_env_says(oauth(secure), monkeypatch)
    monkeypatch.delenv("JAVA_TOOL_OPTIONS")
    with connector_jvm() as jvm, pytest.raises(AssertionError, match=r"oauthbearer\.allowed\.urls' to allow"):
        java_logs_in(jvm, settings)
