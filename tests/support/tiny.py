"""Small models of all architectures, and sentence-transformers' vectors of them (tests/data/make_tiny_models.py), or
transformers' (tests/data/make_small_models.py).
"""

from __future__ import annotations

import base64
import json
from pathlib import Path

import numpy as np
import numpy.typing as npt

MODELS = Path(__file__).parents[1] / "data" / "tiny_models"
BUILT = ("xlm-roberta", "roberta", "mpnet", "distilbert")

_CONTENT = json.loads((MODELS / "vectors.json").read_text())
TEXTS: list[str] = _CONTENT["texts"]


def expected(name: str) -> npt.NDArray[np.float32]:
    """The vectors of TEXTS by the model in `MODELS / name`."""
    return np.frombuffer(base64.b64decode(_CONTENT["vectors"][name]), "<f4").reshape(len(TEXTS), -1)


SMALL = MODELS.with_name("small_models")
_SMALL = json.loads((SMALL / "vectors.json").read_text())
ROTARY = tuple(name for name in _SMALL["vectors"] if name not in ("denses", "static", "model2vec"))
SMALL_TEXTS: list[str] = _SMALL["texts"]


def small_expected(name: str) -> npt.NDArray[np.float32]:
    """The vectors of SMALL_TEXTS by the model in `SMALL / name`."""
    return np.frombuffer(base64.b64decode(_SMALL["vectors"][name]), "<f4").reshape(len(SMALL_TEXTS), -1)
