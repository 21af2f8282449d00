"""From settings to an engine."""

from __future__ import annotations

from typing import TYPE_CHECKING

from embedstream.service.cpus import usable_cpus
from embedstream.service.engine import OpenVinoEngine
from embedstream.service.fake import HashEngine
from embedstream.service.model import fake_dimension, find_model

if TYPE_CHECKING:
    from embedstream.service.engine import Engine
    from embedstream.settings import Settings


def load_engine(settings: Settings) -> Engine:
    """The engine that EMBEDDING_MODEL asks for.

    Raises ConfigError.
    """
    workers = settings.embedding_threads or usable_cpus()
    dimension = fake_dimension(settings.embedding_model)
    if dimension is not None:
        return HashEngine(dimension, workers)
    return OpenVinoEngine(find_model(settings.embedding_model), workers, settings.embedding_precision)
