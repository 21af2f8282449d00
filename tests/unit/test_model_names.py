import importlib.util

import pytest

from embedstream.errors import ConfigError
from embedstream.service.engine.names import is_on_hub
from embedstream.settings import Settings, load_settings

MINILM = "sentence-transformers/all-MiniLM-L6-v2"


def on_hub(model, revision=None):
    return is_on_hub(Settings(embedding_model=model, embedding_model_revision=revision))


@pytest.fixture(autouse=True)
def directory(tmp_path, monkeypatch):
    (tmp_path / "models" / "mine").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("name", ["org/name", "BAAI/bge-small-en-v1.5", "a/b_c.d", "models/other"])
def test_two_words_and_a_slash_are_a_name_of_the_hub(name):
    assert on_hub(name)


@pytest.mark.parametrize(
    "name", ["models/mine", "./models", "/no/such", "~/x", "fake:4", "a/b/c", "org/", "/name", "a b/c"]
)
def test_directories_and_other_paths_are_none(name):
    assert not on_hub(name)


def test_an_installed_model_is_the_hub_s_where_a_revision_is_set_or_it_is_not_installed(monkeypatch):
    assert not on_hub(MINILM)
    assert on_hub(MINILM, "main")
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    assert on_hub(MINILM)


@pytest.mark.parametrize("name", ["models/mine", "fake:4", "all-MiniLM-L6-v2"])
def test_a_revision_of_what_has_none_is_refused(name):
    with pytest.raises(ConfigError, match="EMBEDDING_MODEL_REVISION is v1, but EMBEDDING_MODEL"):
        on_hub(name, "v1")


def test_the_token_may_be_in_a_file_and_is_never_shown(directory, monkeypatch):
    (directory / "token").write_text("hf_secret\n")
    monkeypatch.setenv("HF_TOKEN_FILE", str(directory / "token"))
    settings = load_settings()
    assert settings.hf_token.get_secret_value() == "hf_secret"
    assert "hf_secret" not in str(settings)


@pytest.mark.parametrize(
    ("variable", "value"),
    [("HF_ENDPOINT", "hub.example.com"), ("HF_ENDPOINT", "https://user:word@hub"), ("EMBEDDING_MODEL_REVISION", "a b")],
)
def test_what_cannot_be_meant_is_refused_by_name(monkeypatch, variable, value):
    monkeypatch.setenv(variable, value)
    with pytest.raises(ConfigError, match=variable):
        load_settings()
