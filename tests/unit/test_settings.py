import pickle

import pytest

import embedstream.environment
from embedstream.errors import ConfigError
from embedstream.settings import Settings, load_settings
from embedstream.worker import worker_settings


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch):
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)
        monkeypatch.delenv(f"{name.upper()}_FILE", raising=False)


def test_every_setting_says_what_it_is():
    assert all(field.description for field in Settings.model_fields.values())


def test_the_environment_is_read(monkeypatch):
    monkeypatch.setenv("FLINK_PARALLELISM", "4")
    monkeypatch.setenv("KAFKA_GROUP_ID", "")
    settings = load_settings()
    assert (settings.flink_parallelism, settings.kafka_group_id) == (4, "embedstream")


def test_a_secret_comes_from_a_file(monkeypatch, tmp_path):
    (tmp_path / "password").write_text("s3cret\n")
    monkeypatch.setenv("PGVECTOR_PASSWORD_FILE", str(tmp_path / "password"))
    assert load_settings().pgvector_password.get_secret_value() == "s3cret"


def test_a_file_that_is_not_there_is_one_clear_error(monkeypatch):
    monkeypatch.setenv("PGVECTOR_PASSWORD_FILE", "/nowhere")
    with pytest.raises(ConfigError, match="/nowhere"):
        load_settings()


def test_each_bad_value_is_named_without_the_value(monkeypatch):
    monkeypatch.setenv("FLINK_PARALLELISM", "many")
    monkeypatch.setenv("EMBEDDING_SERVICE_URL", "localhost:5000")
    with pytest.raises(ConfigError) as caught:
        load_settings()
    assert "FLINK_PARALLELISM: " in str(caught.value)
    assert "EMBEDDING_SERVICE_URL: " in str(caught.value)
    assert "many" not in str(caught.value)


def test_a_password_in_an_address_is_refused_and_not_repeated():
    with pytest.raises(ConfigError, match="no password in it") as caught:
        load_settings(embedding_service_url="http://user:s3cret@host")
    assert "s3cret" not in str(caught.value)


def test_dead_letters_do_not_go_back_into_the_input():
    with pytest.raises(ConfigError, match=r"^KAFKA_DEAD_LETTER_TOPIC must not be"):
        load_settings(kafka_input_topic="t", kafka_dead_letter_topic="t")


def test_settings_travel_through_the_environment(monkeypatch):
    settings = load_settings(pgvector_password="s3cret", flink_parallelism=3, embedding_service_url="http://h:1/")
    for name, value in settings.to_env().items():
        monkeypatch.setenv(name, value)
    assert load_settings() == settings


def test_secrets_do_not_show():
    settings = load_settings(pgvector_password="s3cret", kafka_sasl_password="s3cret", embedding_api_key="s3cret")
    assert "s3cret" not in repr(settings) + str(settings)


@pytest.mark.parametrize("key", ["", "two words", "line\n", "näïve"])
def test_a_key_that_fits_no_header_is_refused_and_not_repeated(key):
    with pytest.raises(ConfigError, match=r"^EMBEDDING_API_KEY: must be printable ASCII") as caught:
        load_settings(embedding_api_key=key)
    assert not key or key not in str(caught.value)


def test_a_worker_s_own_key_wins_unseen(monkeypatch, tmp_path, caplog):
    (tmp_path / "key").write_text("n3w-key\n")
    submitted = pickle.loads(pickle.dumps(load_settings(embedding_api_key="0ld-key")))
    assert worker_settings(submitted).embedding_api_key.get_secret_value() == "0ld-key"
    monkeypatch.setenv("EMBEDDING_API_KEY_FILE", str(tmp_path / "key"))
    assert worker_settings(submitted).embedding_api_key.get_secret_value() == "n3w-key"
    assert "EMBEDDING_API_KEY is ***" in caplog.text
    assert "n3w" not in caplog.text
    assert "0ld" not in caplog.text


LINK = "tcp://10.96.0.12:5432"


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("PGVECTOR_PORT", LINK),
        ("PGVECTOR_HOST", LINK),
        ("EMBEDDING_PORT", "udp://[fd00::1]:53"),
        ("EMBEDDING_PORT", "tcp://172.17.0.5:5000"),
    ],
)
def test_a_service_link_is_passed_over_with_one_warning(monkeypatch, caplog, variable, value):
    embedstream.environment._warn_of_service_link.cache_clear()
    monkeypatch.setenv(variable, value)
    assert (load_settings(), load_settings()) == (Settings.model_construct(), Settings.model_construct())
    (warning,) = caplog.messages
    assert f"{variable}={value} is passed over" in warning


@pytest.mark.parametrize(
    "name",
    [
        "EMBEDDING_SERVICE_PORT",
        "EMBEDDING_SERVICE_HOST",
        "KAFKA_PORT",
        "PGVECTOR_PORT_5432_TCP",
        "PGVECTOR_SERVICE_PORT",
    ],
)
def test_what_else_kubernetes_says_of_services_is_no_setting(monkeypatch, caplog, name):
    monkeypatch.setenv(name, LINK)
    assert load_settings() == Settings.model_construct()
    assert not caplog.messages


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("PGVECTOR_PORT", "five"),
        ("PGVECTOR_PORT", "0"),
        ("PGVECTOR_PORT", "tcp://10.96.0.12"),
        ("LOG_LEVEL", "loud"),
        ("INDEX", "3"),
        ("PGVECTOR_SSLMODE", "true"),
    ],
)
def test_what_nobody_can_mean_is_refused(monkeypatch, variable, value):
    monkeypatch.setenv(variable, value)
    with pytest.raises(ConfigError, match=f"^{variable}: "):
        load_settings()


@pytest.mark.parametrize(
    ("variable", "value", "meant"),
    [
        ("LOG_LEVEL", "info", "INFO"),
        ("LOG_LEVEL", "Warn", "WARNING"),
        ("LOG_LEVEL", ' "debug"\r', "DEBUG"),
        ("LOG_LEVEL", "CRITICAL", "ERROR"),
        ("KAFKA_SECURITY_PROTOCOL", "sasl_ssl", "SASL_SSL"),
        ("KAFKA_SASL_MECHANISM", "scram-sha-512", "SCRAM-SHA-512"),
        ("PGVECTOR_SSLMODE", "Verify-Full", "verify-full"),
        ("EMBEDDING_PRECISION", "BF16", "bf16"),
        ("INDEX", "false", "off"),
        ("INDEX", "Off", "off"),
        ("INDEX", "true", "auto"),
    ],
)
def test_a_choice_is_taken_as_it_is_meant(monkeypatch, variable, value, meant):
    monkeypatch.setenv(variable, value)
    assert getattr(load_settings(), variable.lower()) == meant


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("HEALTH_MAX_LAG", "many"),
        ("LOG_LEVEL", "loud"),
        ("KAFKA_DEAD_LETTER_TOPIC", "text-messages"),
        ("KAFKA_SASL_PASSWORD_FILE", "/nowhere"),
    ],
)
def test_a_worker_passes_over_what_it_has_no_use_for(monkeypatch, caplog, variable, value):
    submitted = load_settings(pgvector_host="db", health_max_lag=3)
    monkeypatch.setenv(variable, value)
    monkeypatch.setenv("PGVECTOR_HOST", "replica")
    assert worker_settings(submitted) == submitted.model_copy(update={"pgvector_host": "replica"})
    assert "passed over, since a worker has no use for it" in caplog.text


@pytest.mark.parametrize(("variable", "value"), [("PGVECTOR_SSLMODE", "loud"), ("PGVECTOR_PASSWORD_FILE", "/nowhere")])
def test_a_worker_does_not_guess_at_what_it_decides(monkeypatch, variable, value):
    submitted = load_settings()
    monkeypatch.setenv(variable, value)
    with pytest.raises(ConfigError, match=rf"^{variable}|{value}"):
        worker_settings(submitted)


def test_a_worker_keeps_the_submitted_port_where_its_own_is_a_service_link(monkeypatch):
    submitted = load_settings(pgvector_port=6432)
    monkeypatch.setenv("PGVECTOR_PORT", LINK)
    assert worker_settings(submitted) == submitted


def test_a_worker_s_own_environment_wins_with_a_warning(monkeypatch, caplog):
    submitted = pickle.loads(
        pickle.dumps(load_settings(pgvector_host="db", pgvector_password="old", flink_parallelism=3))
    )
    monkeypatch.setenv("PGVECTOR_HOST", "replica")
    monkeypatch.setenv("PGVECTOR_PASSWORD", "s3cret")
    monkeypatch.setenv("FLINK_PARALLELISM", "9")
    settings = worker_settings(submitted)
    assert (settings.pgvector_host, settings.pgvector_password.get_secret_value()) == ("replica", "s3cret")
    assert settings.flink_parallelism == 3
    assert "PGVECTOR_HOST is replica here, but was submitted as db" in caplog.text
    assert "s3cret" not in caplog.text
    assert "old" not in caplog.text
