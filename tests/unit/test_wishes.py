"""What the settings say of a model: prompts, dimensions, the longest text; and what is known of families."""

import json
import shutil

import numpy as np
import pytest

from embedstream.errors import ConfigError
from embedstream.service.engine.families import family_of
from embedstream.service.engine.loading import load_engine
from embedstream.service.engine.model import Wishes, find_model, revision
from embedstream.service.engine.tokens import Query
from embedstream.settings import Settings
from support.tiny import MODELS, SMALL, TEXTS, expected


@pytest.fixture
def named(tmp_path):
    def make(name, source=MODELS / "distilbert"):
        return shutil.copytree(source, tmp_path / name)

    return make


def change(path, **fields):
    path.write_text(json.dumps({**(json.loads(path.read_text()) if path.exists() else {}), **fields}))


def wished(root, **fields):
    return find_model(str(root), wishes=Wishes(**fields))


def test_prompts_that_the_files_have_too_are_the_same_revision(named):
    plain = named("plain")
    from_files = named("files")
    change(from_files / "config_sentence_transformers.json", prompts={"query": "q: ", "document": "d: "})
    by_setting = wished(plain, passage_prompt="d: ", query_prompt="q: ")
    assert (by_setting.prefix, by_setting.query_prefix) == ("d: ", "q: ")
    assert revision(by_setting) == revision(find_model(str(from_files))) != revision(find_model(str(plain)))


def test_settings_become_prompts():
    fields = {"embedding_model": str(MODELS / "distilbert"), "embedding_precision": "f32", "embedding_threads": 1}
    engine = load_engine(Settings(**fields, embedding_prompt_passage="passage : ", embedding_prompt_query="query : "))
    plain = load_engine(Settings(**fields))
    expected_ids = [list(one.ids) for one in plain.tokenize(["passage : stone", "query : stone"])]
    assert [list(one.ids) for one in engine.tokenize(["stone", Query("stone")])] == expected_ids


def test_vectors_are_cut_and_of_length_one_again():
    fields = {"embedding_model": str(MODELS / "distilbert"), "embedding_precision": "f32"}
    engine = load_engine(Settings(**fields, embedding_dimensions=10))
    vectors = engine.open_worker()([one.ids for one in engine.tokenize(TEXTS)])
    cut = expected("distilbert")[:, :10]
    assert np.abs(vectors - cut / np.linalg.norm(cut, axis=1, keepdims=True)).max() < 1e-5
    assert engine.facts.embedding_dimension == 10
    [warning] = engine.facts.warnings
    assert "does not say that it is Matryoshka" in warning


def test_dimensions_are_part_of_the_revision_where_they_cut():
    root = MODELS / "distilbert"
    plain = revision(find_model(str(root)))
    assert revision(wished(root, dimensions=16)) == plain != revision(wished(root, dimensions=10))
    assert wished(root, dimensions=16).warnings == ()


def test_more_than_the_model_has_is_refused():
    with pytest.raises(ConfigError, match="EMBEDDING_DIMENSIONS is 17"):
        wished(MODELS / "distilbert", dimensions=17)
    with pytest.raises(ConfigError, match="EMBEDDING_MAX_TOKENS is 141"):
        wished(MODELS / "distilbert", max_tokens=141)
    with pytest.raises(ConfigError, match="EMBEDDING_DIMENSIONS is 25"):
        wished(SMALL / "static", dimensions=25)


@pytest.mark.parametrize(
    ("fields", "warns"),
    [
        ({"is_matryoshka": True}, False),
        ({"matryoshka_dimensions": [8, 10]}, False),
        ({"matryoshka_dimensions": [8]}, True),
        ({}, True),
    ],
)
def test_a_model_may_say_that_it_is_matryoshka(named, fields, warns):
    root = named("model")
    change(root / "config.json", **fields)
    assert bool(wished(root, dimensions=10).warnings) is warns


def test_the_longest_text_may_be_set(named):
    root = named("model")
    change(root / "sentence_bert_config.json", max_seq_length=20)
    assert wished(root, max_tokens=100).max_tokens == 100
    assert revision(wished(root, max_tokens=20)) == revision(find_model(str(root)))
    assert wished(SMALL / "static", max_tokens=100).max_tokens == 100


def test_a_prompt_that_leaves_no_room_is_refused():
    fields = {"embedding_model": str(MODELS / "distilbert"), "embedding_max_tokens": 8}
    with pytest.raises(ConfigError, match="EMBEDDING_MAX_TOKENS"):
        load_engine(Settings(**fields, embedding_prompt_query="a of the a of the "))


@pytest.mark.parametrize(
    ("name", "passage", "query"),
    [
        ("intfloat/e5-small-v2", "passage: ", "query: "),
        ("multilingual-e5-base", "passage: ", "query: "),
        ("intfloat/multilingual-e5-large-instruct", "", "Instruct: "),
        ("BAAI/bge-small-en-v1.5", "", "Represent this sentence"),
        ("snowflake-arctic-embed-l-v2.0", "", "query: "),
        ("snowflake-arctic-embed-s", "", "Represent this sentence"),
        ("nomic-ai/nomic-embed-text-v1.5", "search_document: ", "search_query: "),
        ("google/embeddinggemma-300m", "title: none | text: ", "task: search result | query: "),
        ("Qwen/Qwen3-Embedding-0.6B", "", "Instruct: "),
    ],
)
def test_families_are_known_by_name(name, passage, query):
    family = family_of(name)
    assert family.passage == passage
    assert family.query.startswith(query)


@pytest.mark.parametrize("name", ["sentence-transformers/all-MiniLM-L6-v2", "BAAI/bge-m3", "gte-base", "me5-x"])
def test_of_others_nothing_is_known(name):
    assert family_of(name) is None


def test_a_family_without_its_prompts_is_warned_of(named):
    root = named("e5-small-v2")
    [warning] = find_model(str(root)).warnings
    assert 'EMBEDDING_PROMPT_PASSAGE="passage: " and EMBEDDING_PROMPT_QUERY="query: "' in warning
    assert wished(root, passage_prompt="p", query_prompt="q").warnings == ()
    change(root / "config_sentence_transformers.json", prompts={"query": "query: ", "passage": "passage: "})
    assert find_model(str(root)).warnings == ()


def test_warnings_are_logged_and_told(named, caplog):
    engine = load_engine(Settings(embedding_model=str(named("bge-base-en-v1.5")), embedding_precision="f32"))
    assert "EMBEDDING_PROMPT_QUERY" in engine.facts.warnings[0]
    assert engine.facts.warnings[0] in caplog.text


def test_very_long_texts_are_warned_of(named):
    root = named("long", SMALL / "modernbert")
    change(root / "config.json", max_position_embeddings=32_768)
    change(root / "sentence_bert_config.json", max_seq_length=32_768)
    assert "EMBEDDING_MAX_TOKENS" in find_model(str(root)).warnings[0]
    assert wished(root, max_tokens=2048).warnings == ()
