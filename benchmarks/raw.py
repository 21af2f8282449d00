"""The engine by itself, in this process: what the whole of a pipeline is measured against."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from embedstream.service.batching import Batcher
from embedstream.service.engine.loading import load_engine
from embedstream.settings import load_settings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from embedstream.service.batching import Embedded

ENGINE = "engine"


class RawEngine:
    """The engine of the settings behind its batcher; given all texts at once, it is never short of work."""

    def __init__(self) -> None:
        engine = load_engine(load_settings())
        self.facts = engine.facts
        self._batcher = Batcher(engine, queue_texts=10**6)

    def embed(self, texts: Sequence[str]) -> Embedded:
        return self._batcher.embed(texts)

    def texts_per_second(self, texts: Sequence[str]) -> float:
        began = time.perf_counter()
        self.embed(texts)
        return len(texts) / (time.perf_counter() - began)
