"""sentence-transformers as its documentation shows it: `model.encode(texts)`."""

import sys

from sentence_transformers import SentenceTransformer

from line import serve

model = SentenceTransformer(sys.argv[1], device="cpu")
serve(lambda texts: model.encode(list(texts)), "sentence-transformers", "torch", "transformers")
