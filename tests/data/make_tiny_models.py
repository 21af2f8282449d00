"""Makes tiny_models/: models of each architecture with random weights, and what sentence-transformers gives for them.

Run by hand, in an environment of its own with torch and sentence-transformers:

    python make_tiny_models.py

Each vector is encoded alone, so that no padding is involved. `vectors.json` says which versions made it.
"""

from __future__ import annotations

import base64
import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import sentence_transformers
import torch
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers, processors

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).with_name("tiny_models")
WORDS = "river stone lantern copper orchard thunder velvet compass harvest meadow query passage : a the of".split()  # noqa: SIM905
BERT_MARKS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
ROBERTA_MARKS = ["<s>", "<pad>", "</s>", "<unk>"]
LONGEST = 140

SIZES = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24}
ROBERTA_SIZES = {
    **SIZES,
    "max_position_embeddings": LONGEST + 2,
    "pad_token_id": 1,
    "bos_token_id": 0,
    "eos_token_id": 2,
}
MODELS: dict[str, tuple[Any, list[str], str, bool]] = {
    "xlm-roberta": (transformers.XLMRobertaConfig(**ROBERTA_SIZES, type_vocab_size=1), ROBERTA_MARKS, "mean", True),
    "roberta": (transformers.RobertaConfig(**ROBERTA_SIZES, type_vocab_size=1), ROBERTA_MARKS, "max", False),
    "mpnet": (transformers.MPNetConfig(**ROBERTA_SIZES), ROBERTA_MARKS, "mean", False),
    "distilbert": (
        transformers.DistilBertConfig(dim=16, n_layers=2, n_heads=2, hidden_dim=24, max_position_embeddings=LONGEST),
        BERT_MARKS,
        "cls",
        True,
    ),
    "electra": (
        transformers.ElectraConfig(**SIZES, embedding_size=16, max_position_embeddings=LONGEST),
        BERT_MARKS,
        "mean",
        True,
    ),
}


def texts() -> list[str]:
    draw = np.random.default_rng(5)
    counted = [" ".join(draw.choice(WORDS, count)) for count in (1, 2, 6, 14, 30, 70, 138, 200)]
    return [*counted, "something unknown beside the river", "the <pad> of a <pad> stone"]


def tokenizer(marks: list[str]) -> transformers.PreTrainedTokenizerFast:
    vocabulary = {word: number for number, word in enumerate(marks + WORDS)}
    first, last = (marks[2], marks[3]) if marks is BERT_MARKS else (marks[0], marks[2])
    padding, unknown = (marks[0], marks[1]) if marks is BERT_MARKS else (marks[1], marks[3])
    plain = Tokenizer(models.WordLevel(vocabulary, unk_token=unknown))
    plain.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    plain.post_processor = processors.TemplateProcessing(
        single=f"{first} $A {last}", special_tokens=[(mark, vocabulary[mark]) for mark in (first, last)]
    )
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=plain, cls_token=first, sep_token=last, pad_token=padding, unk_token=unknown,
        model_max_length=LONGEST, model_input_names=["input_ids", "attention_mask"],
    )  # fmt: skip


def drawn(parameters: Iterator[tuple[str, torch.nn.Parameter]]) -> None:
    draw = np.random.default_rng(11)
    for name, parameter in parameters:
        values = draw.normal(size=tuple(parameter.shape)) * (0.4 if parameter.dim() > 1 else 0.1)
        values += 1.0 if parameter.dim() == 1 and name.endswith("weight") else 0.0
        # As the file holds them.
        parameter.data = torch.tensor(values.astype(np.float16).astype(np.float32))


def write(path: Path, content: object) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def make(name: str) -> sentence_transformers.SentenceTransformer:
    config, marks, pooling, normalised = MODELS[name]
    config.vocab_size = len(marks) + len(WORDS)
    options = {} if name in ("distilbert", "electra") else {"add_pooling_layer": False}
    model = transformers.AutoModel.from_config(config, **options).eval()
    drawn(model.named_parameters())
    root = ROOT / name
    tokenizer(marks).save_pretrained(root)
    kinds = ["Transformer", "Pooling", *(["Normalize"] if normalised else [])]
    paths = ["", "1_Pooling", "2_Normalize"]
    modules = [
        {"idx": number, "name": str(number), "path": paths[number], "type": f"sentence_transformers.models.{kind}"}
        for number, kind in enumerate(kinds)
    ]
    write(root / "modules.json", modules)
    modes = {"mean": "mean_tokens", "cls": "cls_token", "max": "max_tokens"}
    chosen = {f"pooling_mode_{mode}": kind == pooling for kind, mode in modes.items()}
    write(root / "1_Pooling" / "config.json", {"word_embedding_dimension": 16, **chosen})
    write(root / "sentence_bert_config.json", {"max_seq_length": LONGEST, "do_lower_case": False})
    model.half().save_pretrained(root, safe_serialization=True)
    (root / "special_tokens_map.json").unlink()
    return sentence_transformers.SentenceTransformer(str(root), device="cpu")


def export(name: str, encoder: sentence_transformers.SentenceTransformer) -> None:
    """In place of its weights, so that nothing else can be used."""
    ones = torch.ones((2, 5), dtype=torch.long)
    path = ROOT / name / "onnx" / "model.onnx"
    path.parent.mkdir()
    inputs = ["input_ids", "attention_mask", "token_type_ids"]
    torch.onnx.export(
        encoder[0].auto_model,
        (ones, ones, torch.zeros_like(ones)),
        str(path),
        input_names=inputs,
        output_names=["last_hidden_state"],
        dynamic_axes={key: {0: "texts", 1: "length"} for key in [*inputs, "last_hidden_state"]},
        opset_version=14,
    )
    (ROOT / name / "model.safetensors").unlink()


def main() -> None:
    shutil.rmtree(ROOT, ignore_errors=True)
    made_with = {module.__name__: module.__version__ for module in (sentence_transformers, torch, transformers)}
    content: dict[str, Any] = {"made_with": made_with, "texts": texts(), "vectors": {}}
    for name in MODELS:
        encoder = make(name)
        vectors = np.stack([encoder.encode(text, convert_to_numpy=True) for text in texts()]).astype("<f4")
        content["vectors"][name] = base64.b64encode(vectors.tobytes()).decode()
        if name == "electra":
            export(name, encoder)
    write(ROOT / "vectors.json", content)


main()
