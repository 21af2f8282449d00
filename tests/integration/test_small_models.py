"""Networks with rotary positions, Denses and static models, against vectors of transformers and its like."""

import json
import shutil

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from tokenizers import Tokenizer

from embedstream.errors import ConfigError
from embedstream.service.batching import Batcher
from embedstream.service.engine import precision, probe
from embedstream.service.engine.loading import load_engine
from embedstream.service.engine.model import find_model, revision
from embedstream.service.engine.probe import Died, Probed, Trial, probe_apart
from embedstream.service.engine.tensors import Tensors
from embedstream.settings import Settings
from support.tiny import BUILT, MODELS, ROTARY, SMALL, SMALL_TEXTS, small_expected

F32 = {"embedding_precision": "f32", "embedding_threads": 1}


def embedded(directory, texts=SMALL_TEXTS, **fields):
    """The texts' vectors together, and alone."""
    batcher = Batcher(load_engine(Settings(embedding_model=str(directory), **{**F32, **fields})), queue_texts=100)
    try:
        return batcher.embed(texts).vectors, np.concatenate([batcher.embed([text]).vectors for text in texts])
    finally:
        assert batcher.drain(5)


def cosines(left, right):
    return (left * right).sum(1) / (np.linalg.norm(left, axis=1) * np.linalg.norm(right, axis=1))


def change(path, **fields):
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))


def load(directory):
    return load_engine(Settings(embedding_model=str(directory), **F32))


@pytest.fixture
def copy(tmp_path):
    def make(name):
        return shutil.copytree(SMALL / name, tmp_path / name)

    return make


@pytest.mark.parametrize("name", [*ROTARY, "denses", "static", "model2vec"])
def test_vectors_are_those_of_the_reference(name):
    together, alone = embedded(SMALL / name)
    assert cosines(together, small_expected(name)).min() >= 0.99999
    assert np.abs(together - small_expected(name)).max() < 1e-5
    assert np.abs(together - alone).max() < 1e-6


def tensors_of(directory):
    """All tensors in float32, of one file or many."""
    files = [directory / "model.safetensors", directory / "model.safetensors.index.json"]
    tensors = Tensors(next(path for path in files if path.is_file()))
    return {name: tensors.get(name) for name in tensors}


def save(directory, tensors):
    for path in directory.glob("model*"):
        path.unlink()
    save_file({name: np.ascontiguousarray(value) for name, value in tensors.items()}, directory / "model.safetensors")


@pytest.mark.parametrize(("name", "prefix"), [("modernbert", "model."), ("qwen3", "model."), ("gemma3", "model.")])
def test_names_may_have_a_prefix_and_weights_be_in_one_file(copy, name, prefix):
    root = copy(name)
    save(root, {prefix + each: value for each, value in tensors_of(root).items()})
    assert np.abs(embedded(root)[0] - small_expected(name)).max() < 1e-5


NOMIC = {
    "encoder.layers.": "layers.",
    "emb_ln": "embeddings.LayerNorm",
    "attn.out_proj": "self_attn.o_proj",
    "mlp.fc11": "mlp.up_proj",
    "mlp.fc12": "mlp.gate_proj",
    "mlp.fc2": "mlp.down_proj",
    "norm1": "post_attention_layernorm",
    "norm2": "post_mlp_layernorm",
}
GTE = {
    "encoder.layer.": "layers.",
    "attention.o_proj": "self_attn.o_proj",
    "attn_ln": "post_attention_layernorm",
    "mlp_ln": "post_mlp_layernorm",
}
ATTENTION = tuple(f"self_attn.{part}_proj" for part in "qkv")


def renamed(tensors, names, fused):
    """As transformers calls them, and not their makers' own code, which has queries, keys and values in one."""
    plain = dict(tensors)
    for whole, parts in fused.items():
        for name in [each for each in tensors if f".{whole}." in each]:
            pieces = np.split(plain.pop(name), len(parts))
            plain |= {name.replace(whole, part): piece for part, piece in zip(parts, pieces, strict=True)}
    for old, new in names.items():
        plain = {name.replace(old, new): value for name, value in plain.items()}
    return plain


@pytest.mark.parametrize(
    ("name", "names", "fused", "prefix"),
    [
        ("nomic_bert", NOMIC, {"attn.Wqkv": ATTENTION}, "nomic_bert."),
        (
            "gte",
            GTE,
            {"attention.qkv_proj": ATTENTION, "mlp.up_gate_proj": ("mlp.up_proj", "mlp.gate_proj")},
            "gte.",
        ),
    ],
)
def test_names_may_be_those_of_transformers(copy, name, names, fused, prefix):
    root = copy(name)
    save(root, {prefix + each: value for each, value in renamed(tensors_of(root), names, fused).items()})
    assert np.abs(embedded(root)[0] - small_expected(name)).max() < 1e-5


def test_nomic_may_be_configured_as_on_the_hub(copy):
    root = copy("nomic_bert")
    config = {
        "model_type": "nomic_bert", "n_embd": 32, "n_layer": 4, "n_head": 4, "n_positions": 96, "rotary_emb_base": 1000,
        "activation_function": "swiglu", "layer_norm_epsilon": 1e-12, "rotary_emb_fraction": 1.0, "prenorm": False,
        "rotary_scaling_factor": None, "auto_map": {"AutoModel": "nomic-ai/nomic-bert-2048--modeling.NomicBertModel"},
    }  # fmt: skip
    (root / "config.json").write_text(json.dumps(config))
    assert np.abs(embedded(root)[0] - small_expected("nomic_bert")).max() < 1e-5
    change(root / "config.json", num_experts=8)
    with pytest.raises(ConfigError, match="num_experts 8"):
        find_model(str(root))


def test_gte_may_be_configured_as_on_the_hub(copy):
    root = copy("gte")
    change(root / "config.json", model_type="new", position_embedding_type="rope", auto_map={"AutoModel": "x--y.Z"})
    assert np.abs(embedded(root)[0] - small_expected("gte")).max() < 1e-5


@pytest.mark.parametrize(
    ("name", "fields", "said"),
    [
        ("qwen3", {"rope_parameters": {"rope_type": "yarn", "factor": 4.0, "rope_theta": 1e6}}, "yarn"),
        ("qwen3", {"rope_parameters": None, "rope_scaling": {"type": "dynamic", "factor": 2.0}}, "dynamic"),
        ("qwen3", {"rope_parameters": None, "rope_scaling": {"type": "ntk", "factor": 2.0}}, "ntk"),
        ("qwen3-windows", {"is_causal": False}, "windows in both directions"),
        ("qwen3", {"hidden_act": "xielu"}, "xielu"),
        ("qwen3", {"num_key_value_heads": 3}, "4 heads over 3"),
        ("gemma3", {"attn_logit_softcapping": 50.0}, "attn_logit_softcapping"),
        ("modernbert", {"layer_types": ["full_attention", "linear_attention"] * 2}, "linear_attention"),
        ("nomic_bert", {"prenorm": True}, "prenorm"),
        ("gte", {"layer_norm_type": "rms_norm"}, "rms_norm"),
        ("gte", {"rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "partial_rotary_factor": 0.5}}, "part"),
        ("gte", {"model_type": "rwkv", "auto_map": {"AutoModel": "x.Y"}}, "rwkv.*code of its own"),
    ],
)
def test_what_is_not_built_is_refused_by_name(copy, name, fields, said):
    root = copy(name)
    change(root / "config.json", **fields)
    with pytest.raises(ConfigError, match=said):
        find_model(str(root))


@pytest.mark.parametrize("scaling", [{"type": "linear", "factor": 2.0}, {"type": "ntk", "factor": 2.0}])
def test_scaled_turns_are_other_vectors(copy, scaling):
    root = copy("gte")
    change(root / "config.json", rope_parameters=None, rope_scaling=scaling)
    assert cosines(embedded(root)[0], small_expected("gte")).min() < 0.9999


def test_weights_of_another_configuration_are_refused(copy):
    root = copy("gemma3")
    change(root / "config.json", num_hidden_layers=3, layer_types=["full_attention"] * 3)
    with pytest.raises(ConfigError, match=r"layers\.3\..*describes has not"):
        load(root)
    change(root / "config.json", num_hidden_layers=5, layer_types=["full_attention"] * 5)
    with pytest.raises(ConfigError, match=r"there is no layers\.4"):
        load(root)
    change(root / "config.json", num_hidden_layers=4, layer_types=["full_attention"] * 4, num_attention_heads=2)
    with pytest.raises(ConfigError, match="of this configuration"):
        load(root)


OF_WEIGHTS = [*(SMALL / name for name in (*ROTARY, "denses", "static")), *(MODELS / name for name in BUILT)]


@pytest.mark.parametrize("root", OF_WEIGHTS, ids=lambda root: root.name)
def test_a_tokenizer_with_more_tokens_than_the_weights_is_refused(tmp_path, root):
    copied = shutil.copytree(root, tmp_path / root.name)
    path = next(copied.rglob("tokenizer.json"))
    content = json.loads(path.read_text())
    size = Tokenizer.from_file(str(path)).get_vocab_size()
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized", "special"), False)
    content["added_tokens"] += [{"id": id, "content": f"surplus {id}", **flags} for id in range(size, size + 2000)]
    path.write_text(json.dumps(content))
    with pytest.raises(ConfigError, match=r"the tokenizer beside .* tokens, but the (weights only|table) ") as caught:
        load(copied)
    assert "\n" not in str(caught.value)


def test_a_shard_that_is_missing_is_named(copy):
    root = copy("qwen3")
    (root / "model-00003-of-00006.safetensors").unlink()
    with pytest.raises(ConfigError, match="model-00003-of-00006"):
        load(root)


def test_the_revision_covers_all_shards_and_denses(copy):
    for name in ("qwen3", "denses"):
        root = copy(name)
        seen = {revision(find_model(str(root)))}
        for path in sorted(root.rglob("*.safetensors")):
            path.write_bytes(path.read_bytes()[:-2] + b"\x01\x3c")
            seen.add(revision(find_model(str(root))))
        assert len(seen) == 1 + len(list(root.rglob("*.safetensors")))


def test_where_an_export_lies_there_it_stays_what_is_run(copy):
    """As before its network could be built here: tables are pinned to it."""
    root = copy("modernbert")
    (root / "onnx").mkdir()
    (root / "onnx/model.onnx").write_bytes(b"")
    assert find_model(str(root)).network.files == (root / "onnx/model.onnx",)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"in_features": 17}, "takes vectors of 17"),
        ({"out_features": 41}, "takes vectors of 40 dimensions, but is given 41"),
        ({"bias": False}, "another Dense"),
        ({"activation_function": "torch.nn.modules.activation.Mish"}, "Mish"),
        ({"module_input_name": "token_embeddings"}, "from a text's vector"),
    ],
)
def test_a_dense_that_does_not_fit_is_refused(copy, fields, said):
    root = copy("denses")
    change(root / "Dense_2/config.json", **fields)
    with pytest.raises(ConfigError, match=said):
        load(root)


def test_int8_is_for_rotary_networks_too():
    facts = load_engine(Settings(embedding_model=str(SMALL / "gemma3"), embedding_precision="int8")).facts
    assert (facts.precision, facts.fidelity > 0.99) == ("int8", True)


def test_model2vec_needs_no_modules(copy):
    root = copy("model2vec")
    (root / "modules.json").unlink()
    assert np.abs(embedded(root)[0] - small_expected("model2vec")).max() < 1e-5
    change(root / "config.json", normalize=False)
    assert not np.allclose(np.linalg.norm(embedded(root)[0], axis=1), 1)


def test_a_static_model_counts_no_special_tokens_and_keeps_a_long_text_whole(copy):
    engine = load_engine(Settings(embedding_model=str(SMALL / "static"), embedding_engine="static"))
    [tokens] = engine.tokenize(["river stone " * 20_000])
    assert (tokens.total, engine.facts.engine, engine.tokenizer.reserved_tokens) == (40_000, "static", 0)
    long, short = engine.open_worker()([tokens.ids, tokens.ids[:2]])
    assert np.abs(long - short).max() < 1e-6


def test_a_static_engine_is_for_static_models():
    with pytest.raises(ConfigError, match="EMBEDDING_ENGINE is static"):
        load_engine(Settings(embedding_model=str(SMALL / "gte"), embedding_engine="static"))
    with pytest.raises(ConfigError, match="EMBEDDING_PRECISION"):
        load_engine(Settings(embedding_model=str(SMALL / "static"), embedding_precision="bf16"))


def test_a_damaged_table_is_refused(copy):
    root = copy("model2vec")
    save_file({**load_file(root / "model.safetensors"), "mapping": np.full(20, 99)}, root / "model.safetensors")
    with pytest.raises(ConfigError, match="no table"):
        load(root)
    save_file({"other": np.zeros(3)}, root / "model.safetensors")
    with pytest.raises(ConfigError, match="no table"):
        load(root)


def test_bf16_is_tried_in_another_process():
    probed = probe_apart(Trial(find_model(str(SMALL / "qwen3")), 1))
    assert 0.99 < probed.fidelity <= 1
    assert probed.speed > 0


def died(_):
    raise Died("signal 8")


@pytest.fixture
def able(monkeypatch):
    monkeypatch.setattr(precision, "_computes_bf16", lambda: True)


def test_where_the_runtime_dies_in_bf16_it_is_f32(monkeypatch, able, caplog):
    caplog.set_level("INFO")
    monkeypatch.setattr(precision, "probe_apart", died)
    wanted = {"embedding_model": str(SMALL / "gemma3"), "embedding_threads": 1}
    assert load_engine(Settings(**wanted)).facts.precision == "f32"
    assert "ended by signal 8" in caplog.text
    with pytest.raises(ConfigError, match="signal 8"):
        load_engine(Settings(**wanted, embedding_precision="bf16"))


def test_a_process_that_dies_is_no_end_of_this_one(monkeypatch):
    monkeypatch.setattr(probe.sys, "executable", "/bin/false")
    with pytest.raises(Died, match="exit code 1"):
        probe_apart(Trial(find_model(str(SMALL / "qwen3")), 1))


@pytest.mark.parametrize(("name", "expected"), [("qwen3", "bf16"), ("denses", "f32")])
def test_weights_in_bf16_bear_more_of_it(monkeypatch, able, name, expected):
    monkeypatch.setattr(precision, "probe_apart", lambda _: Probed(0.9995, 2.0))
    engine = load_engine(Settings(embedding_model=str(SMALL / name), embedding_threads=1))
    assert (engine.facts.precision, engine.facts.fidelity) == (expected, 0.9995 if expected == "bf16" else 1.0)
