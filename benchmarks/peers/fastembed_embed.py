"""fastembed with the model's ONNX file given as a model of one's own: `TextEmbedding(...).embed(texts)`."""

import sys

from fastembed import TextEmbedding
from fastembed.common.model_description import ModelSource, PoolingType

from line import serve

NAME = "local/all-MiniLM-L6-v2"

TextEmbedding.add_custom_model(
    model=NAME,
    pooling=PoolingType.MEAN,
    normalization=True,
    sources=ModelSource(hf=NAME),
    dim=384,
    model_file="model.onnx",
)
model = TextEmbedding(NAME, specific_model_path=sys.argv[2])
serve(lambda texts: list(model.embed(list(texts))), "fastembed", "onnxruntime")
