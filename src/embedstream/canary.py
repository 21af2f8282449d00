"""Fixed texts whose vectors tell whether a server still embeds as it did."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import numpy.typing as npt

Vectors: TypeAlias = npt.NDArray[np.float32]

TEXTS = (
    "A text that every model can embed.",
    "The committee postponed its decision until the budget had been published.",
    "Salt dissolves faster in warm water than in cold.",
    "def mean(values): return sum(values) / len(values)",
    "Der Zug nach Norden fährt heute von einem anderen Gleis.",
    "昨日は一日中雨が降っていました。",
    "Order 40417: 3 boxes, 12.50 each, delivered on Tuesday.",
    "no",
)
"""Never to be changed: tables keep vectors of them."""

LEAST_COSINE = 0.999
"""Of vectors of one space; servers that compute in half precision wobble in the fourth decimal place."""


def least_cosine(ours: Vectors, theirs: Vectors) -> float:
    """Over rows of shape (texts, dimension); -1 where the shapes differ, or a row is zero or not finite."""
    if ours.shape != theirs.shape:
        return -1.0
    lengths = np.linalg.norm(ours, axis=1) * np.linalg.norm(theirs, axis=1)
    if not np.isfinite(lengths).all() or not lengths.all():
        return -1.0
    return float((np.einsum("ij,ij->i", ours, theirs) / lengths).min())


def pack(vectors: Vectors) -> bytes:
    """As tables keep them, in half precision: that costs less than a ten-thousandth of LEAST_COSINE's margin."""
    return vectors.astype("<f2").tobytes()


def unpack(content: bytes) -> Vectors:
    return np.frombuffer(content, "<f2").reshape(len(TEXTS), -1).astype(np.float32)


def moved(kept: Vectors, now: Vectors) -> str | None:
    """What is wrong with vectors of a server, next to those that a table keeps; None where nothing is."""
    cosine = least_cosine(kept, now)
    if cosine >= LEAST_COSINE:
        return None
    return (
        f"space_moved: the remote server's vectors of the same texts have a cosine of {cosine:.4f} to those that the "
        f"table was begun with (at least {LEAST_COSINE} is expected): put the server's model back, or use another "
        "PGVECTOR_TABLE"
    )
