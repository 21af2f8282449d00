import pickle

import pytest

from embedstream.errors import ConfigError
from embedstream.settings import Settings, load_settings, worker_settings


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


def test_a_text_that_fits_into_no_request_is_refused():
    with pytest.raises(ConfigError, match="raise EMBEDDING_MAX_REQUEST_BYTES"):
        load_settings(max_text_bytes=2000, embedding_max_request_bytes=2000)
