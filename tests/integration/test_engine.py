import base64
import json
import math
import os
import random
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from embedstream.corpus import docstrings
from embedstream.errors import ConfigError
from embedstream.service.batching import Batcher
from embedstream.service.engine import precision
from embedstream.service.engine.model import find_model
from embedstream.service.engine.nodes import FAR
from embedstream.service.engine.openvino_engine import OpenVinoEngine
from support.service import MINILM

REFERENCE = Path(__file__).parents[1] / "data" / "reference_vectors.json"


@pytest.fixture(scope="module")
def engine():
    return OpenVinoEngine(find_model(MINILM), workers=2)


@pytest.fixture(scope="module")
def batcher(engine):
    batcher = Batcher(engine, queue_texts=10_000)
    yield batcher
    assert batcher.drain(5)


@pytest.fixture(scope="module")
def reference(engine):
    """Texts, and sentence-transformers' own vectors of them; without the few of which the model sees nothing."""
    content = json.loads(REFERENCE.read_text())
    vectors = np.frombuffer(base64.b64decode(content["vectors"]), "<f4").reshape(-1, content["dimension"])
    seen = [at for at, tokens in enumerate(engine.tokenize(content["texts"])) if not tokens.unseen]
    assert len(content["texts"]) - 10 < len(seen) < len(content["texts"])
    return [content["texts"][at] for at in seen], vectors[seen]


def cosines(left, right):
    return (left * right).sum(1) / (np.linalg.norm(left, axis=1) * np.linalg.norm(right, axis=1))


def test_the_revision_stays_what_tables_are_pinned_to(engine):
    assert (engine.facts.model_name, engine.facts.model_revision) == (MINILM, "264fd352e252")


def test_vectors_are_those_of_sentence_transformers(batcher, reference):
    texts, expected = reference
    embedded = batcher.embed(texts)
    assert embedded.vectors.shape == (len(texts), 384)
    assert cosines(embedded.vectors, expected).min() >= 0.99999
    assert np.abs(embedded.vectors - expected).max() < 1e-5
    assert sum(count > 256 for count in embedded.token_counts) >= 5


def test_a_text_has_the_same_vector_alone_and_among_mates(batcher, reference):
    texts, _ = reference
    together = batcher.embed(texts * 2).vectors
    alone = np.concatenate([batcher.embed([text]).vectors for text in texts])
    for half in (together[: len(texts)], together[len(texts) :]):
        assert cosines(half, alone).min() >= 0.999999
        assert np.abs(half - alone).max() < 1e-6


def test_texts_of_many_lengths_come_back_in_order(batcher):
    words = " ".join(entry.text for entry in docstrings()[:400]).split()
    texts = [" ".join(words[start : start + 1 + start % 40]) for start in range(120)]
    shuffled = random.Random(7).sample(range(120), 120)
    vectors = batcher.embed(texts).vectors
    again = batcher.embed([texts[place] for place in shuffled]).vectors
    assert np.abs(again - vectors[shuffled]).max() < 1e-6
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)


def test_a_text_is_cut_after_the_tokens_that_fit(engine):
    short, long = engine.tokenize(["stone " * 254, "stone " * 254 + "river bank"])
    assert (short.total, long.total) == (256, 258)
    assert np.array_equal(short.ids, long.ids)
    assert (long.ids[0], long.ids[-1], len(long.ids)) == (101, 102, 256)


def test_a_huge_text_is_counted_to_its_end(batcher):
    embedded = batcher.embed(["word " * 200_000, "a"])
    assert embedded.token_counts == [200_002, 3]
    assert np.isfinite(embedded.vectors).all()


SIGNALLED = """
import os, signal, sys
from embedstream.service.engine.openvino_engine import OpenVinoEngine
from embedstream.service.engine.model import find_model

heard = []
signal.signal(signal.SIGTERM, lambda *_: heard.append(True))
first, second = (OpenVinoEngine(find_model(sys.argv[1]), workers=1) for _ in range(2))
del first, second
os.kill(os.getpid(), signal.SIGTERM)
sys.exit(heard != [True])
"""


def test_engines_that_have_ended_leave_signals_alone():
    subprocess.run([sys.executable, "-c", SIGNALLED, MINILM], check=True)


WITNESS = """
import sys

def witness(event, args):
    if event in ("os.fork", "os.posix_spawn", "subprocess.Popen", "socket.connect", "socket.getaddrinfo"):
        print(event, args)

sys.addaudithook(witness)
from embedstream.service.engine.openvino_engine import OpenVinoEngine
from embedstream.service.engine.model import find_model

engine = OpenVinoEngine(find_model(sys.argv[1]), workers=1)
engine.open_worker()
"""


def test_nothing_leaves_the_machine(tmp_path):
    """Importing OpenVINO as it comes would send usage data out, and write to the user's home."""
    home = {**os.environ, "HOME": str(tmp_path)}
    result = subprocess.run([sys.executable, "-c", WITNESS, MINILM], env=home, capture_output=True, check=True)
    assert result.stdout == b""
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def tiny(tmp_path):
    """Makes a directory of a tiny model with random weights."""

    def make(*, dtype=np.float32, prefix="", activation="gelu", pooling="mean", normalised=True, names=""):
        root = tmp_path / "tiny"
        shutil.copytree(find_model(MINILM).directory, root, ignore=shutil.ignore_patterns("*.safetensors"))
        change(root / "config.json", hidden_size=16, num_hidden_layers=2, num_attention_heads=2, hidden_act=activation)
        change(root / "config.json", max_position_embeddings=30, layer_norm_eps=1e-5)
        change(root / "sentence_bert_config.json", max_seq_length=30)
        change(root / "config_sentence_transformers.json", prompts={"p": "river "})
        change(root / "config_sentence_transformers.json", default_prompt_name="p" if prefix else None)
        change(root / "1_Pooling/config.json", pooling_mode_mean_tokens=pooling == "mean")
        change(root / "1_Pooling/config.json", pooling_mode_cls_token=pooling == "cls")
        change(root / "1_Pooling/config.json", pooling_mode_max_tokens=pooling == "max")
        if not normalised:
            modules = json.loads((root / "modules.json").read_text())
            (root / "modules.json").write_text(json.dumps(modules[:2]))
        save_file({names + name: value.astype(dtype) for name, value in tiny_weights()}, root / "model.safetensors")
        return find_model(str(root))

    return make


def change(path, **fields):
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))


def tiny_weights():
    draw = np.random.default_rng(3)
    sizes = {"embeddings.word_embeddings": (30522, 16), "embeddings.position_embeddings": (30, 16)}
    sizes |= {"embeddings.token_type_embeddings": (2, 16)}
    for layer in ("encoder.layer.0.", "encoder.layer.1."):
        sizes |= {f"{layer}attention.self.{name}": (16, 16) for name in ("query", "key", "value")}
        sizes |= {f"{layer}attention.output.dense": (16, 16), f"{layer}attention.output.LayerNorm": (16,)}
        sizes |= {f"{layer}intermediate.dense": (24, 16), f"{layer}output.dense": (16, 24)}
        sizes |= {f"{layer}output.LayerNorm": (16,)}
    sizes |= {"embeddings.LayerNorm": (16,)}
    for name, size in sizes.items():
        yield f"{name}.weight", draw.normal(size=size) * 0.5 + (len(size) == 1)
        if "_embeddings" not in name:
            yield f"{name}.bias", draw.normal(size=size[0]) * 0.1


def by_hand(model, ids):
    """BERT in plain numpy and float64, one text without padding."""
    weights = {
        name.removeprefix("bert."): value.astype(float) for name, value in load_file(model.network.weights).items()
    }

    def dense(x, name):
        return x @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]

    def norm(x, name):
        centred = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5)
        return centred * weights[f"{name}.weight"] + weights[f"{name}.bias"]

    def activated(x):
        if model.network.activation == "relu":
            return np.maximum(x, 0)
        if model.network.activation == "gelu":
            return x * (1 + np.vectorize(math.erf)(x / math.sqrt(2))) / 2
        return x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))) / 2

    x = weights["embeddings.word_embeddings.weight"][ids]
    x = x + weights["embeddings.position_embeddings.weight"][: len(ids)]
    x = norm(x + weights["embeddings.token_type_embeddings.weight"][0], "embeddings.LayerNorm")
    for layer in ("encoder.layer.0.", "encoder.layer.1."):
        parts = [dense(x, f"{layer}attention.self.{name}").reshape(-1, 2, 8) for name in ("query", "key", "value")]
        scores = np.exp(np.einsum("qhd,khd->hqk", parts[0], parts[1]) / math.sqrt(8))
        attended = np.einsum("hqk,khd->qhd", scores / scores.sum(-1, keepdims=True), parts[2]).reshape(-1, 16)
        x = norm(x + dense(attended, f"{layer}attention.output.dense"), f"{layer}attention.output.LayerNorm")
        wide = activated(dense(x, f"{layer}intermediate.dense"))
        x = norm(x + dense(wide, f"{layer}output.dense"), f"{layer}output.LayerNorm")
    vector = {"cls": x[0], "mean": x.mean(0), "max": x.max(0)}[model.pooling]
    return vector / np.linalg.norm(vector) if model.normalised else vector


@pytest.mark.parametrize(
    "kind",
    [
        {},
        {"pooling": "cls"},
        {"pooling": "max"},
        {"normalised": False},
        {"activation": "relu"},
        {"activation": "gelu_new", "normalised": False},
        {"dtype": np.float16},
        {"names": "bert."},
        {"prefix": "river "},
    ],
    ids=str,
)
def test_models_of_all_supported_kinds_are_computed_as_by_hand(tiny, kind):
    model = tiny(**kind)
    engine = OpenVinoEngine(model, workers=1)
    texts = ["stone", "a copper lantern by the harvest", "word " * 50]
    tokens = engine.tokenize(texts)
    plain = [model.prefix + text for text in texts]
    assert [one.total for one in tokens] == [len(text.split()) + 2 for text in plain]
    vectors = engine.open_worker()([one.ids for one in tokens])
    expected = [by_hand(model, one.ids) for one in tokens]
    assert np.abs(vectors - expected).max() < 1e-4


def test_int8_is_a_space_of_its_own_and_says_how_far_it_is_off(tiny, caplog):
    caplog.set_level("INFO")
    model = tiny()
    exact, coarse = OpenVinoEngine(model, 1, "f32"), OpenVinoEngine(model, 1, "int8")
    assert coarse.facts.model_revision != exact.facts.model_revision
    assert (coarse.facts.precision, coarse.facts.normalised) == ("int8", True)
    ids = [tokens.ids for tokens in coarse.tokenize(["stone", "a copper lantern by the harvest"])]
    assert coarse.facts.fidelity < cosines(*(engine.open_worker()(ids) for engine in (exact, coarse))).min() < 0.999999
    assert 0.99 < coarse.facts.fidelity < exact.facts.fidelity == 1.0
    assert [record.precision for record in caplog.records] == ["f32", "int8"]


def test_a_cpu_without_bf16_is_not_made_to_emulate_it(tiny, monkeypatch):
    monkeypatch.setattr(precision, "_computes_bf16", lambda: False)
    model = tiny()
    assert OpenVinoEngine(model, 1, "auto").facts.precision == "f32"
    with pytest.raises(ConfigError, match="EMBEDDING_PRECISION"):
        OpenVinoEngine(model, 1, "bf16")


@pytest.mark.parametrize("wanted", ["auto", "bf16"])
def test_bf16_shares_the_space_of_f32(tiny, monkeypatch, wanted):
    monkeypatch.setattr(precision, "_computes_bf16", lambda: True)
    monkeypatch.setattr(precision, "SAME_VECTORS", 0.99)
    model = tiny()
    facts = OpenVinoEngine(model, 1, wanted).facts
    assert facts.precision in ({"auto": ("f32", "bf16"), "bf16": ("bf16",)}[wanted])
    assert facts.model_revision == OpenVinoEngine(model, 1).facts.model_revision


def test_padding_is_masked_with_a_number_that_bf16_bears():
    """From 1e3 on no score beside it counts in float32; 1e9 cost bfloat16 more than a table may mix."""
    assert 1e3 <= FAR <= 1e8


@pytest.mark.skipif(not precision._computes_bf16(), reason="the CPU has no instructions for bfloat16")
def test_where_the_cpu_has_bf16_it_is_chosen(monkeypatch, reference):
    # Beside other tests no timing can be relied on.
    monkeypatch.setattr(precision, "_FASTER", 0.0)
    texts, expected = reference
    engine = OpenVinoEngine(find_model(MINILM), workers=2, precision="auto")
    assert engine.facts.precision == "bf16"
    assert engine.facts.fidelity >= 0.9999
    batcher = Batcher(engine, queue_texts=10_000)
    try:
        together = batcher.embed(texts).vectors
        alone = np.concatenate([batcher.embed([text]).vectors for text in texts])
    finally:
        batcher.drain(5)
    assert cosines(together, expected).min() >= 0.9999
    assert cosines(together, alone).min() >= 0.99999


@pytest.mark.parametrize("damage", ["missing", "torn", "empty"])
def test_damaged_weights_are_a_configuration_error(tiny, damage):
    model = tiny()
    if damage == "missing":
        save_file({"embeddings.word_embeddings.weight": np.zeros((4, 16), np.float32)}, model.network.weights)
    else:
        model.network.weights.write_bytes(model.network.weights.read_bytes()[:1000] if damage == "torn" else b"")
    with pytest.raises(ConfigError, match=r"model\.safetensors"):
        OpenVinoEngine(model, workers=1)
