import importlib.util
import shutil

import numpy as np
import pytest

from embedstream.errors import ConfigError
from embedstream.service.batching import Batcher
from embedstream.service.engine.loading import load_engine
from embedstream.service.engine.model import find_model, revision
from embedstream.settings import Settings
from support.tiny import BUILT, MODELS, TEXTS, expected

INSTALLED = importlib.util.find_spec("sentence_transformers") is not None


def load(directory, **fields):
    wanted = {"embedding_model": str(directory), "embedding_engine": "sentence-transformers", "embedding_threads": 2}
    return load_engine(Settings(**wanted, **fields))


@pytest.mark.skipif(INSTALLED, reason="sentence-transformers is installed")
def test_without_the_library_it_says_what_to_install():
    with pytest.raises(ConfigError, match="pip install sentence-transformers"):
        load(MODELS / "roberta")


@pytest.mark.parametrize("precision", ["bf16", "int8"])
def test_it_computes_in_f32_only(precision):
    with pytest.raises(ConfigError, match="EMBEDDING_PRECISION"):
        load(MODELS / "roberta", embedding_precision=precision)


def test_a_foreign_network_is_for_it_alone(tmp_path):
    shutil.copytree(MODELS / "roberta", tmp_path / "m")
    config = tmp_path / "m/config.json"
    known = revision(find_model(str(tmp_path / "m"), any_network=True))
    config.write_text(config.read_text().replace('"roberta"', '"nomic_bert"'))
    assert revision(find_model(str(tmp_path / "m"), any_network=True)) != known
    with pytest.raises(ConfigError, match="nomic_bert"):
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
