"""sentence-transformers' OpenVINO back end, as its documentation shows it; it exports the model while it starts."""

import sys

from sentence_transformers import SentenceTransformer

from line import serve

model = SentenceTransformer(sys.argv[1], backend="openvino", device="cpu")
serve(lambda texts: model.encode(list(texts)), "optimum-intel", "openvino")
