"""Small models of all architectures, and sentence-transformers' vectors of them (tests/data/make_tiny_models.py)."""

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
