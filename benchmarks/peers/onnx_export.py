"""Writes the model's transformer as ONNX: `onnx_export.py <model directory> <target directory>`."""

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from transformers import AutoModel

NAMES = ["input_ids", "attention_mask", "token_type_ids"]
OUTPUT = "last_hidden_state"
TOLERANCE = 1e-4


class Transformer(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.model = AutoModel.from_pretrained(source, attn_implementation="eager")

    def forward(self, ids, mask, types):
        return self.model(input_ids=ids, attention_mask=mask, token_type_ids=types).last_hidden_state


source, target = Path(sys.argv[1]), Path(sys.argv[2])
target.mkdir(parents=True, exist_ok=True)
model = Transformer().eval()
path = str(target / "model.onnx")
ids = torch.arange(2000, 2032).reshape(2, 16)
mask = torch.ones_like(ids)
mask[1, 9:] = 0
torch.onnx.export(
    model,
    (ids, mask, torch.zeros_like(ids)),
    path,
    input_names=NAMES,
    output_names=[OUTPUT],
    dynamic_axes={name: {0: "batch", 1: "length"} for name in [*NAMES, OUTPUT]},
    opset_version=17,
    dynamo=False,  # torch 2.15's other exporter gives a graph with other numbers
)
for name in ("config.json", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.txt"):
    shutil.copy(source / name, target)

# fastembed would cut texts where the tokenizer says, at 512 tokens, and not where the model's own configuration does.
configuration = json.loads((target / "tokenizer_config.json").read_text())
configuration["model_max_length"] = json.loads((source / "sentence_bert_config.json").read_text())["max_seq_length"]
(target / "tokenizer_config.json").write_text(json.dumps(configuration))

shorter = [ids[:, :12], mask[:, :12], torch.zeros(2, 12, dtype=torch.int64)]
with torch.no_grad():
    wanted = model(*shorter).numpy()
inputs = {name: tensor.numpy() for name, tensor in zip(NAMES, shorter, strict=True)}
(found,) = onnxruntime.InferenceSession(path).run([OUTPUT], inputs)
if np.abs(wanted - found).max() > TOLERANCE:
    sys.exit("the exported model gives other numbers than the model")
