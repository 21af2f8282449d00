"""The scenario vector_index over a million rows of 384 dimensions: an hour, and 10 GB of disk."""

from __future__ import annotations

from functools import partial

from benchmarks.scenarios import vector_index
from benchmarks.scenarios.vector_index import BASELINE, FIGURE

__all__ = ["BASELINE", "FIGURE", "TITLE", "contenders"]

TITLE = "The vector index of a million rows by what it holds"

contenders = partial(vector_index.contenders, rows=1_000_000, dimensions=(384,))
