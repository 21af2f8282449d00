import json
import shutil

import numpy as np
import pytest

from embedstream.errors import ConfigError
from embedstream.service.batching import Batcher
from embedstream.service.engine.exported import build_exported
from embedstream.service.engine.model import Wishes, find_model, revision
from embedstream.service.engine.openvino_engine import OpenVinoEngine
from embedstream.service.engine.runtime import core, op, openvino
from support.tiny import BUILT, MODELS, TEXTS, expected


def embedded(directory):
    batcher = Batcher(OpenVinoEngine(find_model(str(directory)), workers=1), queue_texts=100)
    try:
        return batcher.embed(TEXTS)
    finally:
        batcher.drain(5)


@pytest.fixture
def exported(tmp_path):
    """A directory in which the network is an OpenVINO IR."""
    root = tmp_path / "model"
    shutil.copytree(MODELS / "electra", root)
    openvino.save_model(core().read_model(root / "onnx/model.onnx"), root / "openvino/openvino_model.xml")
    (root / "onnx/model.onnx").unlink()
    return root


@pytest.mark.parametrize("name", [*BUILT, "electra"])
def test_vectors_are_those_of_sentence_transformers(name):
    found = embedded(MODELS / name)
    assert max(found.token_counts) == 202
    assert np.abs(found.vectors - expected(name)).max() < 1e-5


def test_an_exported_network_s_vectors_can_be_cut():
    model = find_model(str(MODELS / "electra"), wishes=Wishes(dimensions=6))
    engine = OpenVinoEngine(model, workers=1)
    vectors = engine.open_worker()([one.ids for one in engine.tokenize(TEXTS)])
    cut = expected("electra")[:, :6]
    assert np.abs(vectors - cut / np.linalg.norm(cut, axis=1, keepdims=True)).max() < 1e-5


def test_an_openvino_graph_is_taken_too(exported):
    # It was saved in float16.
    assert np.abs(embedded(exported).vectors - expected("electra")).max() < 5e-3


@pytest.mark.parametrize("name", BUILT)
def test_each_can_be_run_with_int8_weights(name):
    facts = OpenVinoEngine(find_model(str(MODELS / name)), 1, "int8").facts
    assert (facts.precision, facts.fidelity > 0.99) == ("int8", True)


def test_weights_are_preferred_to_an_export(tmp_path):
    shutil.copytree(MODELS / "roberta", tmp_path / "m")
    shutil.copytree(MODELS / "electra/onnx", tmp_path / "m/onnx")
    assert np.abs(embedded(tmp_path / "m").vectors - expected("roberta")).max() < 1e-5


def test_the_revision_covers_all_files_of_a_graph(exported):
    seen = {revision(find_model(str(exported)))}
    for name in ("openvino_model.xml", "openvino_model.bin"):
        with (exported / "openvino" / name).open("ab") as file:
            file.write(b"\n")
        seen.add(revision(find_model(str(exported))))
    assert len(seen) == 3


def test_a_graph_that_mixes_texts_is_refused(exported):
    ids, mask = (op.parameter([-1, -1], np.int64, name=name) for name in ("input_ids", "attention_mask"))
    hidden = op.gather(op.constant(np.eye(40, 16, dtype=np.float32)), ids, op.constant(np.int64(0)))
    mean = op.reduce_mean(op.multiply(hidden, op.unsqueeze(op.convert(mask, np.float32), op.constant(-1))),
                          op.constant([0, 1]), keep_dims=True)  # fmt: skip
    save(exported, op.add(hidden, mean), ids, mask)
    with pytest.raises(ConfigError, match="texts beside it"):
        OpenVinoEngine(find_model(str(exported)), 1)


def save(root, result, *inputs):
    for node in inputs:
        node.output(0).set_names({node.get_friendly_name()})
    openvino.save_model(openvino.Model([result], list(inputs), "m"), root / "openvino/openvino_model.xml")


def test_a_graph_of_another_kind_is_refused(exported):
    ids, other = op.parameter([-1, -1], np.int64, name="input_ids"), op.parameter([-1, -1], np.int64, name="pixels")
    for result, inputs, said in [
        (ids, [ids], r"not \(texts, tokens, 16\)"),
        (op.add(ids, other), [ids, other], "pixels"),
    ]:
        save(exported, result, *inputs)
        with pytest.raises(ConfigError, match=said):
            build(exported)
    (exported / "openvino/openvino_model.xml").write_text("no graph")
    with pytest.raises(ConfigError, match=r"openvino_model\.xml"):
        build(exported)


def build(directory):
    model = find_model(str(directory))
    return build_exported(model, model.network)


def test_a_tokenizer_with_more_tokens_than_the_network_has_vectors_for_is_refused(exported):
    tokenizer = json.loads((exported / "tokenizer.json").read_text())
    size = len(tokenizer["model"]["vocab"])
    tokenizer["model"]["vocab"]["stranger"] = size
    (exported / "tokenizer.json").write_text(json.dumps(tokenizer))
    with pytest.raises(
        ConfigError, match=rf"has {size + 1} tokens, but the model only {size}: use a directory in which"
    ):
        OpenVinoEngine(find_model(str(exported)), 1)


def test_int8_is_refused_for_an_exported_network():
    with pytest.raises(ConfigError, match="EMBEDDING_PRECISION"):
        OpenVinoEngine(find_model(str(MODELS / "electra")), 1, "int8")


def test_an_architecture_that_is_neither_known_nor_exported_is_refused(tmp_path):
    shutil.copytree(MODELS / "electra", tmp_path / "m", ignore=shutil.ignore_patterns("onnx"))
    with pytest.raises(ConfigError, match=r"electra.*export it"):
        find_model(str(tmp_path / "m"))
