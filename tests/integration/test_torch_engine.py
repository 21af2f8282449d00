import importlib.util
import shutil

import numpy as np
import pytest

from embedstream.errors import ConfigError
from embedstream.service.batching import Batcher
from embedstream.service.engine.loading import load_engine
from embedstream.service.engine.model import find_model, revision
from embedstream.settings import Settings
from support.tiny import BUILT, MODELS, ROTARY, SMALL, SMALL_TEXTS, TEXTS, expected, small_expected

# This engine sets HF_HUB_OFFLINE, for good: a service has one engine. What the Hub's library reads of it when it is
# imported is read before.
importlib.import_module("huggingface_hub.constants")
INSTALLED = importlib.util.find_spec("sentence_transformers") is not None


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    """As it was, after the test."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "")


def load(directory, **fields):
    wanted = {"embedding_model": str(directory), "embedding_engine": "sentence-transformers", "embedding_threads": 2}
    return load_engine(Settings(**wanted, **fields))


@pytest.mark.skipif(INSTALLED, reason="sentence-transformers is installed")
def test_without_the_library_it_says_what_to_install():
    with pytest.raises(ConfigError, match="pip install sentence-transformers"):
        load(MODELS / "roberta")


def test_it_has_no_int8():
    with pytest.raises(ConfigError, match="EMBEDDING_PRECISION"):
        load(MODELS / "roberta", embedding_precision="int8")


@pytest.mark.parametrize("engine", ["openvino", "static"])
def test_other_engines_use_no_gpu(engine):
    with pytest.raises(ConfigError, match="EMBEDDING_DEVICE"):
        load_engine(Settings(embedding_engine=engine, embedding_device="cuda"))


@pytest.mark.skipif(not INSTALLED, reason="sentence-transformers is not installed")
def test_without_a_gpu_it_says_so():
    with pytest.raises(ConfigError, match="no NVIDIA GPU"):
        load(MODELS / "roberta", embedding_device="cuda")


@pytest.mark.skipif(not INSTALLED, reason="sentence-transformers is not installed")
def test_bf16_is_probed_as_elsewhere(monkeypatch):
    monkeypatch.setattr("embedstream.service.engine.torch_engine.SAME_VECTORS", 0.99)
    engine = load(MODELS / "distilbert", embedding_precision="bf16")
    assert (engine.facts.precision, engine.facts.batch_tokens) == ("bf16", 768)
    assert 0.99 <= engine.facts.fidelity < 1
    assert engine.facts.model_revision == load(MODELS / "distilbert").facts.model_revision
    monkeypatch.setattr("embedstream.service.engine.torch_engine.SAME_VECTORS", 0.99999999)
    with pytest.raises(ConfigError, match="EMBEDDING_PRECISION"):
        load(MODELS / "distilbert", embedding_precision="bf16")


@pytest.mark.skipif(not INSTALLED, reason="sentence-transformers is not installed")
@pytest.mark.parametrize("name", [*ROTARY, "denses"])
def test_it_gives_new_architectures_the_same_vectors_and_revision(name):
    engine = load(SMALL / name, embedding_batch_tokens=32_768)
    batcher = Batcher(engine, queue_texts=100)
    assert np.abs(batcher.embed(SMALL_TEXTS).vectors - small_expected(name)).max() < 1e-5
    assert batcher.drain(5)
    exact = load_engine(Settings(embedding_model=str(SMALL / name))).facts
    assert engine.facts.model_revision == exact.model_revision


@pytest.mark.skipif(not INSTALLED, reason="sentence-transformers is not installed")
def test_it_cuts_vectors_as_openvino_does():
    fields = {"embedding_model": str(MODELS / "distilbert"), "embedding_dimensions": 8, "embedding_precision": "f32"}
    both = [
        load_engine(Settings(**fields, embedding_engine=engine)) for engine in ("openvino", "sentence-transformers")
    ]
    ids = [tokens.ids for tokens in both[0].tokenize(TEXTS)]
    vectors = [engine.open_worker()(ids).copy() for engine in both]
    assert vectors[0].shape == (len(TEXTS), 8)
    assert np.abs(vectors[0] - vectors[1]).max() < 1e-5


def test_a_foreign_network_is_for_it_alone(tmp_path):
    shutil.copytree(MODELS / "roberta", tmp_path / "m")
    config = tmp_path / "m/config.json"
    known = revision(find_model(str(tmp_path / "m"), any_network=True))
    config.write_text(config.read_text().replace('"roberta"', '"jina_bert"'))
    assert revision(find_model(str(tmp_path / "m"), any_network=True)) != known
    with pytest.raises(ConfigError, match="jina_bert"):
        load_engine(Settings(embedding_model=str(tmp_path / "m")))


@pytest.mark.skipif(not INSTALLED, reason="sentence-transformers is not installed")
@pytest.mark.parametrize("name", BUILT)
def test_vectors_and_revision_are_those_of_openvino(name):
    engine = load(MODELS / name)
    batcher = Batcher(engine, queue_texts=100)
    assert np.abs(batcher.embed(TEXTS).vectors - expected(name)).max() < 1e-5
    assert batcher.drain(5)
    exact = load_engine(Settings(embedding_model=str(MODELS / name))).facts
    assert (engine.facts.model_revision, engine.facts.engine) == (exact.model_revision, "sentence-transformers")


@pytest.mark.skipif(not INSTALLED, reason="sentence-transformers is not installed")
def test_a_model_that_it_cannot_load_is_refused():
    with pytest.raises(ConfigError, match="cannot load"):
        load(MODELS / "electra")
