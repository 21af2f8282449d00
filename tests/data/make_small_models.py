"""Makes small_models/: networks with rotary positions, a model with Denses and static models, all with random weights,
and what transformers and sentence-transformers give for them.

Run by hand, in an environment of its own with torch and sentence-transformers:

    python make_small_models.py

The networks run in float32, on texts in one batch, padded on the left and on the right in turn: both must give the same
vectors, and do so before anything is written. `vectors.json` says which versions made it.
"""

from __future__ import annotations

import base64
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import sentence_transformers
import torch
import transformers
from safetensors.numpy import save_file
from tokenizers import Tokenizer, models, pre_tokenizers, processors

ROOT = Path(__file__).with_name("small_models")
WORDS = "river stone lantern copper orchard thunder velvet compass harvest meadow query passage : a the of".split()  # noqa: SIM905
MARKS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
LONGEST = 96
SIZES = {
    "vocab_size": len(MARKS) + len(WORDS), "hidden_size": 32, "num_hidden_layers": 4, "num_attention_heads": 4,
    "intermediate_size": 40, "max_position_embeddings": LONGEST, "pad_token_id": 0,
}  # fmt: skip
SHARED_KEYS = {**SIZES, "num_key_value_heads": 2, "head_dim": 16, "bos_token_id": 2, "eos_token_id": 3}

MODELS: dict[str, tuple[Any, str]] = {
    # Windows of 8: most texts are longer.
    "modernbert": (transformers.ModernBertConfig(**SIZES, local_attention=16), "cls"),
    "qwen3": (transformers.Qwen3Config(**SHARED_KEYS), "last"),
    "qwen3-both-ways": (transformers.Qwen3Config(**SHARED_KEYS, is_causal=False), "mean"),
    "qwen3-windows": (
        transformers.Qwen3Config(**SHARED_KEYS, use_sliding_window=True, sliding_window=8, max_window_layers=2),
        "last",
    ),
    "gemma3": (transformers.Gemma3TextConfig(**SHARED_KEYS, sliding_window=8, sliding_window_pattern=2), "last"),
    "gemma3-both-ways": (
        transformers.Gemma3TextConfig(
            **SHARED_KEYS, sliding_window=16, sliding_window_pattern=2, use_bidirectional_attention=True
        ),
        "mean",
    ),
    "nomic_bert": (transformers.NomicBertConfig(**SIZES), "mean"),
    "gte": (transformers.GteConfig(**SIZES, hidden_dropout_prob=0.0), "cls"),
}


def texts() -> list[str]:
    draw = np.random.default_rng(5)
    counted = [" ".join(draw.choice(WORDS, count)) for count in (1, 2, 6, 14, 30, 70, 94, 140)]
    return [*counted, "something unknown beside the river"]


def tokenizer() -> transformers.PreTrainedTokenizerFast:
    vocabulary = {word: number for number, word in enumerate(MARKS + WORDS)}
    plain = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    plain.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    plain.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=plain, cls_token="[CLS]", sep_token="[SEP]", pad_token="[PAD]", unk_token="[UNK]",
        model_max_length=LONGEST, model_input_names=["input_ids", "attention_mask"],
    )  # fmt: skip


def drawn(model: torch.nn.Module, dtype: Any) -> None:
    draw = np.random.default_rng(11)
    for parameter in model.parameters():
        values = draw.normal(size=tuple(parameter.shape)) * (0.25 if parameter.dim() > 1 else 0.1)
        centre = 1.0 if parameter.dim() == 1 and float(parameter.detach().mean()) > 0.5 else 0.0
        parameter.data = torch.tensor(values + centre, dtype=torch.float32).to(dtype).float()


def write(path: Path, content: object) -> None:
    path.parent.mkdir(exist_ok=True, parents=True)
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def layout(root: Path, *kinds: str) -> None:
    """`kinds` as Pooling_1, which is a module's type and the name of its directory."""
    modules = [
        {
            "idx": number,
            "name": str(number),
            "path": kind if "_" in kind else "",
            "type": f"sentence_transformers.models.{kind.partition('_')[0]}",
        }
        for number, kind in enumerate(kinds)
    ]
    write(root / "modules.json", modules)


def pooled(hidden: torch.Tensor, mask: torch.Tensor, pooling: str) -> torch.Tensor:
    places = torch.arange(mask.shape[1])
    if pooling == "cls":
        rows = hidden[torch.arange(len(mask)), mask.argmax(1)]
    elif pooling == "last":
        rows = hidden[torch.arange(len(mask)), (mask * places).argmax(1)]
    else:
        rows = (hidden * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
    return torch.nn.functional.normalize(rows, dim=1)


def computed(model: Any, pooling: str) -> np.ndarray:
    """Each text among the others; from each side of padding."""
    sides = []
    for side in ("right", "left"):
        encode = tokenizer()
        encode.padding_side = side
        given = encode(texts(), padding=True, truncation=True, max_length=LONGEST, return_tensors="pt")
        mask = given["attention_mask"]
        given["position_ids"] = (mask.cumsum(1) - 1).clamp(min=0)
        with torch.inference_mode():
            sides.append(pooled(model(**given).last_hidden_state, mask, pooling).numpy())
    assert np.abs(sides[0] - sides[1]).max() < 1e-5, np.abs(sides[0] - sides[1]).max()
    return sides[0]


def make(name: str) -> np.ndarray:
    config, pooling = MODELS[name]
    model = transformers.AutoModel.from_config(config, attn_implementation="eager").eval()
    drawn(model, torch.bfloat16)
    root = ROOT / name
    tokenizer().save_pretrained(root)
    modes = {"mean": "mean_tokens", "cls": "cls_token", "last": "lasttoken"}
    layout(root, "Transformer", "Pooling_1", "Normalize_2")
    write(root / "Pooling_1" / "config.json", {"word_embedding_dimension": 32, f"pooling_mode_{modes[pooling]}": True})
    write(root / "sentence_bert_config.json", {"max_seq_length": LONGEST, "do_lower_case": False})
    vectors = computed(model, pooling)
    options = {"max_shard_size": "16KB"} if name == "qwen3" else {}
    model.bfloat16().save_pretrained(root, **options)
    return vectors


def with_denses() -> np.ndarray:
    """Through a wider one with bias and tanh, and a narrower one with neither; each text alone."""
    root = ROOT / "denses"
    config = transformers.BertConfig(**{**SIZES, "hidden_size": 16, "num_hidden_layers": 1, "intermediate_size": 24})
    model = transformers.BertModel(config, add_pooling_layer=False).eval()
    drawn(model, torch.float16)
    tokenizer().save_pretrained(root)
    layout(root, "Transformer", "Pooling_1", "Dense_2", "Dense_3", "Normalize_4")
    write(root / "Pooling_1" / "config.json", {"word_embedding_dimension": 16, "pooling_mode_mean_tokens": True})
    write(root / "sentence_bert_config.json", {"max_seq_length": LONGEST, "do_lower_case": False})
    model.half().save_pretrained(root)
    modules = sentence_transformers.sentence_transformer.modules
    first = modules.Dense(16, 40, bias=True, activation_function=torch.nn.Tanh())
    second = modules.Dense(40, 24, bias=False, activation_function=torch.nn.Identity())
    for dense, name in ((first, "Dense_2"), (second, "Dense_3")):
        drawn(dense, torch.float16)
        (root / name).mkdir()
        dense.save(str(root / name))
    return encoded(root)


def static() -> np.ndarray:
    root = ROOT / "static"
    draw = np.random.default_rng(3)
    table = draw.normal(size=(SIZES["vocab_size"], 24)).astype(np.float32)
    embedding = sentence_transformers.sentence_transformer.modules.StaticEmbedding(tokenizer(), embedding_weights=table)
    layout(root, "StaticEmbedding_0", "Normalize_1")
    (root / "StaticEmbedding_0").mkdir()
    embedding.save(str(root / "StaticEmbedding_0"))
    return encoded(root)


def model2vec() -> np.ndarray:
    """As its newer versions write them: fewer rows than tokens, a weight for each token, in float16."""
    root = ROOT / "model2vec"
    root.mkdir()
    draw = np.random.default_rng(4)
    tensors = {
        "embeddings": draw.normal(size=(9, 24)).astype(np.float16),
        "mapping": draw.integers(0, 9, SIZES["vocab_size"]),
        "weights": draw.uniform(0.2, 2.0, SIZES["vocab_size"]),
    }
    save_file(tensors, root / "model.safetensors")
    write(root / "config.json", {"model_type": "model2vec", "architectures": ["StaticModel"], "normalize": True})
    layout(root, "StaticEmbedding", "Normalize_1")
    tokenizer().backend_tokenizer.save(str(root / "tokenizer.json"))
    return encoded(root)


def encoded(root: Path) -> np.ndarray:
    # Left to itself, it computes in what the weights are held in.
    encoder = sentence_transformers.SentenceTransformer(str(root), device="cpu").float()
    return np.stack([encoder.encode(text, convert_to_numpy=True) for text in texts()])


def main() -> None:
    shutil.rmtree(ROOT, ignore_errors=True)
    made_with = {module.__name__: module.__version__ for module in (sentence_transformers, torch, transformers)}
    content: dict[str, Any] = {"made_with": made_with, "texts": texts(), "vectors": {}}
    vectors = {name: make(name) for name in MODELS}
    vectors |= {"denses": with_denses(), "static": static(), "model2vec": model2vec()}
    for name, rows in vectors.items():
        content["vectors"][name] = base64.b64encode(rows.astype("<f4").tobytes()).decode()
    write(ROOT / "vectors.json", content)


main()
