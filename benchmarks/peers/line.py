"""The peers' side of a line protocol, with nothing but the standard library and numpy.

The peer says `{"ready": true, "versions": {...}}` on its standard output, then for each line
`{"texts": <path of a JSON list>, "vectors": <path>}` on its input embeds the texts, says `{"seconds": ...}`, and has
written the vectors (float32, texts x dimension) as .npy.
"""

from __future__ import annotations

import json
import os
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


def serve(embed: Callable[[Sequence[str]], object], *packages: str) -> None:
    """Answer until the input ends; what libraries print goes to standard error."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    embed(["a text to warm up with"])
    _say(answers, {"ready": True, "versions": {name: version(name) for name in packages}})
    for line in sys.stdin:
        task = json.loads(line)
        texts = json.loads(Path(task["texts"]).read_text(encoding="utf-8"))
        began = time.perf_counter()
        vectors = embed(texts)
        seconds = time.perf_counter() - began
        np.save(task["vectors"], np.asarray(vectors, np.float32))
        _say(answers, {"seconds": seconds})


def _say(answers: TextIO, fact: dict[str, object]) -> None:
    print(json.dumps(fact), file=answers, flush=True)
