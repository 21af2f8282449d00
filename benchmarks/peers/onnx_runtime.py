"""ONNX Runtime in f32 as sentence-transformers would drive it: sorted by length, batches of 32, mean and norm."""

import sys
from pathlib import Path

import numpy as np
import onnxruntime
from tokenizers import Tokenizer

from line import serve

BATCH = 32
MAX_TOKENS = 256

directory = Path(sys.argv[2])
tokenizer = Tokenizer.from_file(str(directory / "tokenizer.json"))
tokenizer.enable_truncation(MAX_TOKENS)
tokenizer.enable_padding()
session = onnxruntime.InferenceSession(directory / "model.onnx", providers=["CPUExecutionProvider"])


def embed(texts):
    order = sorted(range(len(texts)), key=lambda place: -len(texts[place]))
    rows = [None] * len(texts)
    for start in range(0, len(order), BATCH):
        places = order[start : start + BATCH]
        for place, row in zip(places, infer([texts[place] for place in places]), strict=True):
            rows[place] = row
    return rows


def infer(texts):
    encoded = tokenizer.encode_batch(texts)
    ids = np.array([one.ids for one in encoded], np.int64)
    mask = np.array([one.attention_mask for one in encoded], np.int64)
    inputs = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
    (hidden,) = session.run(["last_hidden_state"], inputs)
    pooled = (hidden * mask[:, :, None]).sum(1) / mask.sum(1, keepdims=True)
    return pooled / np.linalg.norm(pooled, axis=1, keepdims=True)


serve(embed, "onnxruntime", "tokenizers")
